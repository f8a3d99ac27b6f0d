"""A tiny model's whole run, warm start included, killed five times at random: as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

AGENTRL = str(Path(sys.executable).with_name("agentrl"))
RUN = ("train", "code", "--model", "tiny", "--steps", "4", "--seed", "3", "--run", "X", "--json")


def start(folder: Path, words: tuple[str, ...]) -> "subprocess.Popen[str]":
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [AGENTRL, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def finish(folder: Path, words: tuple[str, ...]) -> tuple[dict[str, Any], float]:
    began = time.monotonic()
    process = start(folder, words)
    out, _ = process.communicate()
    assert process.returncode == 0
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result, time.monotonic() - began


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Give the numbers of all steps, timings left out."""
    shown = subprocess.run(
        [AGENTRL, "runs", "X", "--json"], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    rows = json.loads(shown.stdout.splitlines()[-1])["runs"][0]["metrics"]
    timings = ("seconds", "per_second", "idle_share")
    return [{k: v for k, v in row.items() if not any(t in k for t in timings)} for row in rows]


def without_times(result: dict[str, Any]) -> dict[str, Any]:
    warm = {k: v for k, v in result["warm_start"].items() if k != "seconds"}
    return {k: v for k, v in result.items() if k != "seconds"} | {"warm_start": warm}


TREE = (*RUN, "--set", "rollout.strategy=tree")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("words", "share"), [(RUN, (0.2, 0.6)), (TREE, (0.5, 0.9))], ids=["independent", "tree"]
)
def test_killed_five_times(words: tuple[str, ...], share: tuple[float, float], tmp_path: Path) -> None:
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    undisturbed, seconds = finish(tmp_path / "undisturbed", words)
    rng = random.Random(0)
    for _ in range(5):
        process = start(tmp_path / "killed", words)
        assert process.stdout is not None
        try:
            process.wait(rng.uniform(*share) * seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
    killed, _ = finish(tmp_path / "killed", words)
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "undisturbed")
    assert without_times(killed) == without_times(undisturbed)
