"""Run a script as an ordinary user, from a copy of the packages that such a user can read."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentrl.tools.sandbox.users import open_to_all

ROOT = Path(__file__).parents[2]
NOBODY = 65534


def a_python() -> str:
    """An interpreter that every user can start."""
    for path in (os.path.realpath(sys.executable), shutil.which("python3", path="/usr/bin") or ""):
        if path and open_to_all(os.path.dirname(path)):
            version = subprocess.run(
                [path, "-c", "import sys; print(sys.version_info[1])"], capture_output=True
            )
            if int(version.stdout) >= 11:
                return path
    pytest.fail("no Python 3.11 or newer that an ordinary user can start: apt-get install python3")


def is_root() -> bool:
    return os.geteuid() == 0


@contextmanager
def readable_copy() -> Iterator[Path]:
    """The core's errors, the tools and these tests under a folder that everybody can read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "agentrl").mkdir()
        (folder / "agentrl" / "__init__.py").touch()
        shutil.copy(ROOT / "agentrl" / "errors.py", folder / "agentrl")
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "tools", folder / "agentrl" / "tools", ignore=skip)
        shutil.copytree(ROOT / "tests" / "tools", folder / "tests" / "tools", ignore=skip)
        subprocess.run(["chmod", "-R", "a+rX", name], check=True)
        yield folder


def run_script(
    script: str,
    *arguments: str,
    wrapper: tuple[str, ...] = (),
    user: int | None = NOBODY,
    keep: tuple[int, ...] = (),
) -> Any:
    """The JSON that a script of this folder prints, run by an ordinary user, perhaps in a wrapper.

    Args:
        user: None: run by whoever runs the tests; an ordinary user cannot become another either.
        keep: Descriptors that the wrapper inherits.
    """
    python = a_python()
    become: dict[str, Any] = {"user": user, "group": user, "extra_groups": []} if user and is_root() else {}
    with readable_copy() as folder:
        done = subprocess.run(
            [*wrapper, python, "-B", str(folder / "tests" / "tools" / script), *arguments],
            **become,
            pass_fds=keep,
            cwd="/",
            env={"PYTHONPATH": str(folder), "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=800,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
