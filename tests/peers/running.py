"""Scripts that run under a peer's Python."""

import os
import subprocess
from pathlib import Path


def run_in(python: Path, script: Path, text: str) -> str:
    """Run a script there on some standard input; gives what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [python, script], input=text, capture_output=True, text=True, env=environment, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
