"""The folders, pyproject.toml, the import directions and the sizes agree with what CONTRIBUTING.md says."""

import ast
import fnmatch
import re
import statistics
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
ENTRY_POINTS = PROJECT["project"]["entry-points"]
FOLDERS = {name: ROOT / folder for name, folder in SETUPTOOLS["package-dir"].items()}
PARTS = {name for name in FOLDERS if "." in name}
MAY_IMPORT: dict[str, set[str]] = {
    "agentrl": set(),
    "agentrl.tools": set(),
    "agentrl.envs": {"agentrl.tools"},
    "agentrl.trainers": set(),
}
SOURCES = sorted(f for d in (*FOLDERS.values(), ROOT / "tests", ROOT / "examples") for f in d.rglob("*.py"))


def imports(file: Path) -> set[str]:
    """Give the full dotted name of everything that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def functions(file: Path) -> Iterator[tuple[str, int]]:
    """Give each function of a file with its length in lines."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{file.relative_to(ROOT)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_every_package_is_listed() -> None:
    """An unlisted folder is left out of the wheel without a word."""
    on_disk = {
        ".".join((name, *file.parent.relative_to(folder).parts))
        for name, folder in FOLDERS.items()
        for file in folder.rglob("*.py")  # rglob does not follow the links
    }
    assert on_disk == set(SETUPTOOLS["packages"])


def test_every_asset_ships() -> None:
    patterns = SETUPTOOLS["package-data"]["*"]
    files = [f for folder in FOLDERS.values() for f in folder.rglob("*") if f.is_file()]
    assets = [f for f in files if f.suffix not in {".py", ".pyc"}]
    lost = [f.relative_to(ROOT) for f in assets if not any(fnmatch.fnmatch(f.name, p) for p in patterns)]
    assert not lost


@pytest.mark.parametrize("name", sorted(PARTS))
def test_link_leads_to_its_folder(name: str) -> None:
    link = ROOT / name.replace(".", "/")
    assert link.is_symlink() and link.resolve() == FOLDERS[name]


@pytest.mark.parametrize("name", FOLDERS)
def test_imports_point_towards_the_core(name: str) -> None:
    for file in FOLDERS[name].rglob("*.py"):
        used = {part for part in PARTS - {name} for i in imports(file) if f"{i}.".startswith(f"{part}.")}
        assert used <= MAY_IMPORT[name], f"{file.relative_to(ROOT)} imports {used}"


@pytest.mark.parametrize("group", ENTRY_POINTS)
def test_entry_points_lead_somewhere(group: str) -> None:
    for name, value in ENTRY_POINTS[group].items():
        assert EntryPoint(name, value, group).load() is not None, f"{group}: {name}"


def test_functions_and_files_are_short() -> None:
    lengths = dict(pair for file in SOURCES for pair in functions(file))
    assert not {name: n for name, n in lengths.items() if n > 60}
    assert statistics.median(lengths.values()) <= 10
    assert not {str(f.relative_to(ROOT)): n for f in SOURCES if (n := len(f.read_text().splitlines())) > 400}


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / ".ci/constraints.txt").read_text().split()
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line)]
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in lines}
    wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    names = {re.split(r"[\[<>=]", one)[0].lower() for one in wanted} - {"agentrl"}
    assert names <= pinned


def test_nothing_else_stands_at_the_top() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:  # not a git checkout
        return
    top = {Path(line).parts[0] for line in listed.stdout.splitlines()}
    files = {
        "pyproject.toml",
        "README.md",
        "Makefile",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        ".gitignore",
    }
    assert top <= files | {".ci", "agentrl", "envs", "tools", "trainers", "tests", "examples", "docs"}
