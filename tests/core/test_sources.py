"""An environment's code is its file and what that imports from beside it, and nothing else."""

import sys
from pathlib import Path

import pytest

from agentrl.registry import resolve_env
from agentrl.sources import closure, digest_of

ENV = """
import numpy
from facts import TABLE
from bits.words import shorten

class Ask:
    def reset(self, *, seed=None, options=None):
        return TABLE, {}
    def step(self, action):
        return "", 0.0, True, False, {}
"""


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "env.py"


@pytest.fixture
def env(tmp_path: Path) -> Path:
    own = {"facts": "TABLE = 'a'", "bits__words": "from . import marks\ndef shorten(text): return text"}
    return write(tmp_path, env=ENV, **own, bits__marks="DOT = '.'", other="import env")


def test_neighbours_are_followed_and_libraries_are_not(env: Path) -> None:
    names = {str(p.relative_to(env.parent)) for p in closure(env, env.parent, "")}
    assert names == {"env.py", "facts.py", "bits/words.py", "bits/marks.py"}


@pytest.mark.parametrize(("file", "counts"), [("facts", True), ("bits/marks", True), ("other", False)])
def test_a_change_beside_it_is_seen(
    env: Path, file: str, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = resolve_env(f"{env}:Ask")
    before = spec.code
    (env.parent / f"{file}.py").write_text("TABLE = DOT = 'b'")
    assert (spec.code != before) is counts


def test_of_an_installed_package_only_its_own_modules_count(tmp_path: Path) -> None:
    place = tmp_path / "site-packages"
    files = {"shop__game__env": "import stray\nfrom ..facts import TABLE", "shop__facts": "TABLE = 1"}
    write(place, **files, stray="x = 1")
    file = place / "shop/game/env.py"
    before = digest_of(file, "shop.game.env")
    (place / "stray.py").write_text("x = 2")
    assert digest_of(file, "shop.game.env") == before
    (place / "shop/facts.py").write_text("TABLE = 2")
    assert digest_of(file, "shop.game.env") != before


def test_other_packages_of_the_same_project_count(tmp_path: Path) -> None:
    write(tmp_path, one__env="from two.rewards import judge", two__rewards="judge = 1")
    before = digest_of(tmp_path / "one/env.py", "one.env")
    (tmp_path / "two/rewards.py").write_text("judge = 2")
    assert digest_of(tmp_path / "one/env.py", "one.env") != before


def test_our_own_environments_are_told_by_version_and_code() -> None:
    name, version, digest = resolve_env("code").code.split()
    assert name == "agentrl" and version[0].isdigit() and len(digest) == 16


def test_a_file_that_python_cannot_read_is_still_code(tmp_path: Path) -> None:
    file = write(tmp_path, env="import facts", facts="def")
    assert {p.name for p in closure(file, tmp_path, "")} == {"env.py", "facts.py"}
