"""Trees in training: the same runs with trees and with flat groups."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from tests.diagnose.running import play, started
from tests.diagnose.sabotage import case
from tests.learning.envs.two_hop import TwoHop

SEEDS = range(5)


def gains(model: Path, folder: Path, strategy: str) -> list[float]:
    """Give how much success on held-out tasks each seed gains."""
    found = []
    for seed in SEEDS:
        run = play(case(settings={"rollout.strategy": strategy, "eval.tasks": 100}), folder, model, seed=seed)
        result = json.loads((run / "result.json").read_text())
        found.append(result["success_after"] - result["success_before"])
    return found


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_trees_learn_as_flat_groups_do(tmp_path: Path) -> None:
    model = started(TwoHop, tmp_path / "model")
    tree, flat = (gains(model, tmp_path / name, name) for name in ("tree", "independent"))
    assert min(tree) > 0.2
    noise = statistics.stdev(a - b for a, b in zip(tree, flat, strict=True)) / len(SEEDS) ** 0.5
    assert abs(statistics.mean(tree) - statistics.mean(flat)) < max(0.1, 3 * noise), (tree, flat)
