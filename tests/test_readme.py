"""What the README shows works as it stands."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TRAINING = 300


def block(name: str) -> str:
    """Give the code that stands behind a mark."""
    found = re.search(rf"<!-- {name} -->\n```python\n(.*?)```", README, flags=re.DOTALL)
    assert found is not None
    return found[1]


def run(*command: str, folder: Path) -> str:
    """Run a program and give what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TRAINING)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["environment", "training"])
def test_code_is_formatted(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text(block(name))
    run(
        sys.executable,
        "-m",
        "ruff",
        "format",
        "--check",
        "--config",
        str(ROOT / "pyproject.toml"),
        ".",
        folder=tmp_path,
    )


def test_code_is_short() -> None:
    (kind,) = [n for n in ast.parse(block("environment")).body if isinstance(n, ast.ClassDef)]
    assert kind.end_lineno is not None and kind.end_lineno - kind.lineno + 1 <= 15
    assert len(block("training").splitlines()) <= 6


def test_environment_is_sound(tmp_path: Path) -> None:
    (tmp_path / "seats.py").write_text(block("environment"))
    assert "sound" in run(sys.executable, "-m", "agentrl", "check", "seats.py:Seats", folder=tmp_path)


@pytest.mark.timeout(TRAINING + 10)
def test_training_learns(tmp_path: Path) -> None:
    (tmp_path / "seats.py").write_text(block("environment"))
    (tmp_path / "training.py").write_text("from seats import Seats\n" + block("training"))
    last = run(sys.executable, "training.py", folder=tmp_path).splitlines()[-1]
    before, after = map(float, last.split())
    assert before <= 0.4 and after >= 0.7


def test_it_is_at_most_two_screens() -> None:
    assert len(README.splitlines()) <= 80


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links and not [link for link in links if not (ROOT / link).exists()]
