"""Which files an environment's code consists of: its module and those beside it that it imports."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}
"""Folders where everything stands beside everything: a module there has no neighbours but its package."""


def digest_of(file: Path, module: str) -> str:
    """Tell versions of a module's code apart, together with its neighbours that it imports.

    Neighbours are what can be imported from where it stands: other modules and packages of the same project,
    of an installed package only its own. Imports are read, not executed, so that the digest depends on
    nothing but the files; data files and modules that are imported by a computed name are not seen.

    Args:
        file: The module's.
        module: Its name, from which the package follows.
    """
    parts = module.split(".")
    depth = len(parts) - (file.name != "__init__.py")
    root = file.parents[depth] if depth < len(file.parents) else file.parent
    within = parts[0] if INSTALLED & {*root.parts} else ""
    found = hashlib.sha256()
    for path in sorted(closure(file, root, within)):
        found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def digest_of_folder(folder: Path) -> str:
    """Tell versions of a package's code apart."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        found.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def closure(file: Path, root: Path, within: str) -> set[Path]:
    """Give the file and all that it imports below `root`, of the package `within` where one is named."""
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in imported(path, root):
            if not within or name.partition(".")[0] == within:
                waiting += files_of(name, root)
    return found


def imported(path: Path, root: Path) -> Iterator[str]:
    """Name what a file imports, seen from `root`; `from a import b` may mean the module `a.b`."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    here = path.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else ()
            start = ".".join((*above, *([node.module] if node.module else [])))
            yield start
            yield from (f"{start}.{alias.name}".lstrip(".") for alias in node.names)


def files_of(name: str, root: Path) -> list[Path]:
    """Give the files that importing a dotted name executes, if they stand below `root`."""
    place, found = root, list[Path]()
    for part in filter(None, name.split(".")):
        place = place / part
        found += [p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()]
    return found
