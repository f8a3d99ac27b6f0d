"""Every example runs, with less work than it does by default."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SECONDS = 280
FEW = {
    "guess_number.py": ["2"],
    "train_code.py": ["tiny", "2"],
    "custom_advantage.py": ["2"],
    "evaluate.py": ["8"],
}


def test_every_example_is_tried() -> None:
    assert {p.name for p in EXAMPLES.glob("*.py")} == set(FEW)


@pytest.mark.parametrize("name", FEW)
def test_example_runs(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / name), *FEW[name]]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert not list(EXAMPLES.glob("runs"))
