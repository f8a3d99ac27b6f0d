"""A class is found again under the name that a run or a check writes down."""

import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from agentrl.environment import Environment
from agentrl.errors import ConfigError
from agentrl.reference import importable_name, lasting_name
from agentrl.registry import load

PRINT = "from agentrl.reference import lasting_name\nprint(lasting_name(Thing, 'none'))\n"


def said(folder: Path, *words: str) -> str:
    """Run Python in a folder and give its last line."""
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a folder with a script, a script that imports it, and a package that has the same."""
    (tmp_path / "pack").mkdir()
    for folder in (tmp_path, tmp_path / "pack"):
        script = f"class Thing: ...\nif __name__ == '__main__':\n{indent(PRINT, '    ')}"
        (folder / "thing.py").write_text(script)
    (tmp_path / "pack/__init__.py").write_text("class Thing: ...\n")
    (tmp_path / "go.py").write_text(f"from thing import Thing\n{PRINT}")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("thing.py",), "thing.py:Thing"),
        (("go.py",), "thing.py:Thing"),
        (("-m", "thing"), "thing.py:Thing"),
        (("-m", "pack.thing"), "pack.thing:Thing"),
        (("-c", f"from pack.thing import Thing\n{PRINT}"), "pack.thing:Thing"),
        (("-c", f"from pack import Thing\n{PRINT}"), "pack:Thing"),
        (("-c", f"class Thing: ...\n{PRINT}"), "none"),
    ],
)
def test_it_is_the_same_however_the_class_was_found(words: tuple[str, ...], name: str, place: Path) -> None:
    assert said(place, *words) == name


def test_from_elsewhere_a_script_has_its_whole_path(place: Path) -> None:
    file = place / "thing.py"
    assert said(place / "pack", str(file)) == f"{file.resolve()}:Thing"


def test_what_is_given_by_file_or_installed_is_named_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert lasting_name(load(f"{place}/thing.py:Thing"), "none") == "thing.py:Thing"
    for file in ("thing.v2.py", "site-packages/thing.py"):
        (place / file).parent.mkdir(exist_ok=True)
        (place / file).write_text("class Thing: ...\n")
        assert lasting_name(load(f"{file}:Thing"), "none") == f"{file}:Thing"
    assert lasting_name(Environment, "none") == "agentrl.environment:Environment"
    assert importable_name(Environment) == "agentrl.environment:Environment"


def test_what_nobody_else_can_find() -> None:
    class Inner: ...

    assert lasting_name(Inner, "none") == "none"
    with pytest.raises(ConfigError, match="inside another object"):
        importable_name(Inner)
