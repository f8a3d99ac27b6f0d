"""Environments of their own for libraries that we compare with; made once, kept beside ours."""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".venv" / "peers"


def python_with(name: str, *requirements: str) -> Path:
    """Give the Python of an environment that has the requirements; the first time takes a minute or two."""
    digest = hashlib.sha256(" ".join((sys.version, *requirements)).encode()).hexdigest()[:8]
    folder = CACHE / f"{name}-{digest}"
    python, finished = folder / "bin" / "python", folder / "finished"
    if not finished.exists():
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True, timeout=1200)
        finished.touch()
    return python


def run_in(python: Path, script: Path, text: str) -> str:
    """Run a script there on some standard input; gives what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [python, script], input=text, capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
