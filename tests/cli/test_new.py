"""`agentrl new`: what it writes passes as it is."""

import ast
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, run_command

ROOT = Path(__file__).parents[2]


def test_writes_three_files_that_pass(agentrl: Run, tmp_path: Path) -> None:
    data = agentrl("new", "my_env", "--json").data
    assert data == {
        "env": "my_env:MyEnv",
        "files": ["my_env.py", "test_my_env.py", "train_my_env.py"],
        "next": [
            "agentrl play my_env:MyEnv",
            "agentrl check my_env:MyEnv",
            "agentrl train my_env:MyEnv --model tiny",
        ],
    }
    tested = run_command([sys.executable, "-m", "pytest", "-q", "test_my_env.py"], tmp_path)
    assert tested.code == 0 and "3 passed" in tested.out, tested.out
    assert run_command([sys.executable, "test_my_env.py"], tmp_path).out == "passed\n"


def test_the_starter_is_short_and_clean(
    agentrl: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYPYPATH", str(ROOT))  # mypy does not see editable installations
    agentrl("new", "my_env")
    (kind,) = [n for n in ast.parse((tmp_path / "my_env.py").read_text()).body if isinstance(n, ast.ClassDef)]
    text = ast.unparse(kind)
    assert len(text.splitlines()) <= 20
    for tool in (
        ["ruff", "format", "--isolated", "--check", "."],
        ["ruff", "check", "--isolated", "."],
        ["mypy", "--strict", "--follow-imports", "silent", "my_env.py"],
    ):
        ended = run_command([sys.executable, "-m", *tool], tmp_path)
        assert ended.code == 0, ended.out


def test_overwrites_nothing(agentrl: Run, tmp_path: Path) -> None:
    (tmp_path / "test_my_env.py").write_text("mine")
    assert "test_my_env.py exists" in agentrl("new", "my_env").complaint
    assert [p.name for p in tmp_path.iterdir()] == ["test_my_env.py"]


@pytest.mark.parametrize("name", ["my_env", "env", "a1"])
def test_any_fitting_name_works(name: str, agentrl: Run, tmp_path: Path) -> None:
    env = agentrl("new", name, "--json").data["env"]
    assert agentrl("envs", env).code == 0
