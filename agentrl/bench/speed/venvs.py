"""Environments of their own for libraries that we compare with; made once, kept beside our own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

from agentrl.errors import InfrastructureError

CACHE = Path(sys.prefix) / "peers"
SECONDS = 1200
LAST_LETTERS = 800


def python_with(name: str, *requirements: str) -> Path:
    """Give the Python of an environment that has the requirements; the first time takes a minute or two.

    Raises:
        InfrastructureError: They cannot be installed.
    """
    digest = hashlib.sha256(" ".join((sys.version, *requirements)).encode()).hexdigest()[:8]
    folder = CACHE / f"{name}-{digest}"
    python, finished = folder / "bin" / "python", folder / "finished"
    if not finished.exists():
        venv.create(folder, clear=True, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*command, *requirements], capture_output=True, text=True, timeout=SECONDS)
        if done.returncode:
            wanted = " ".join(requirements)
            raise InfrastructureError(
                f"pip cannot install {wanted} into {folder}: {done.stderr[-LAST_LETTERS:]}"
            )
        finished.touch()
    return python
