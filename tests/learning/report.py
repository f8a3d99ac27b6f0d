"""Trains a tiny model on each small environment and prints a table.

    python tests/learning/report.py [--seeds 0,1,2] [--only guess,walk]

Each run is what `agentrl train FILE:CLASS --model tiny` does, in a process of its own so that its CPU
seconds can be told.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent / "envs"
RUN = """
import json, sys, time, torch
torch.set_num_threads(1)
from agentrl.errors import ConfigError
from agentrl.trainers.run.session import train
try:
    result = train(sys.argv[1], model="tiny", seed=int(sys.argv[2]), fresh=True)
except ConfigError as error:
    result = {"error": str(error)}
result["cpu"] = time.process_time()
print(json.dumps(result, default=str))
"""
TUNED = ("chained", "guess", "cheapest", "sort_numbers")
"""The environments that the recipe was tuned on."""


def environments() -> dict[str, str]:
    """Give the small environments: name to `file.py:Class`."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        (kind,) = re.findall(r"^class (\w+)\(", path.read_text(), re.MULTILINE)
        found[path.stem] = f"{path}:{kind}"
    return found


def run(reference: str, seed: int) -> dict[str, object]:
    """Train once, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", RUN, reference, str(seed)], cwd=folder, capture_output=True, text=True
        )
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1], "cpu": 0.0}
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def line(name: str, seed: int, result: dict[str, object]) -> str:
    """Give one line of the table."""
    mark = "tuned" if name in TUNED else ""
    if "error" in result:
        return f"| {name} | {mark} | {seed} | {result['error']} | | {result['cpu']:.0f} |"
    before = f"{result['success_before']:.2f} / {result['greedy_before']:.2f}"
    after = f"{result['success_after']:.2f} / {result['greedy_after']:.2f}"
    return f"| {name} | {mark} | {seed} | {before} | {after} | {result['cpu']:.0f} |"


def main() -> None:
    """Run all that was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else list(environments())
    print("| environment | | seed | before, sampled / greedy | after | CPU s |\n|---|---|---|---|---|---|")
    for name in chosen:
        for seed in map(int, options.seeds.split(",")):
            print(line(name, seed, run(environments()[name], seed)), flush=True)


if __name__ == "__main__":
    main()
