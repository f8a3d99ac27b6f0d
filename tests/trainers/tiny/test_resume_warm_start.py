"""An interrupted warm start goes on: nothing is played twice, and the weights are the same to the bit."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import torch

from agentrl.errors import ConfigError
from agentrl.store.store import Store
from agentrl.task import SeededTasks
from agentrl.trainers.tiny.make import make_tiny
from agentrl.trainers.tiny.milestones import Milestones
from agentrl.trainers.tiny.start import warm_start
from agentrl.trainers.tiny.warm_start import Round, WarmStartSettings, WarmStartStep
from tests.trainers.tiny.envs import Echo
from tests.trainers.tiny.test_sloppy import worker_of

SETTINGS = WarmStartSettings(
    rounds=tuple(Round(steps=n, rate=1e-3, fresh=8, good=2.0) for n in (6, 4)),
    first=64,
    checks=16,
    enough=0.0,
    habit_steps=4,
    low=0.0,
)


class Interrupted(Exception):
    """The process ended here."""


class Counted(Echo):
    """Counts its episodes."""

    played = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        Counted.played += 1
        return super().reset(seed=seed)


async def run(folder: Path, last: int | None) -> tuple[torch.Tensor, list[int]]:
    """Warm-start, and stop after so many steps; gives the weights, and the steps that were trained."""
    worker = worker_of(Counted)
    store, taken = Store(folder, run="r"), []

    def stop(step: WarmStartStep) -> None:
        taken.append(step.step)
        if len(taken) == last:
            raise Interrupted

    tiny = await make_tiny(worker, SeededTasks(seed=1), journal=store)
    milestones = Milestones(file=folder / "warm.safetensors", run="r")
    try:
        await warm_start(
            tiny,
            worker,
            SeededTasks(seed=2),
            settings=SETTINGS,
            on_step=stop,
            journal=store,
            milestones=milestones,
        )
    except (ConfigError, Interrupted) as error:  # so few steps teach nothing; what was trained must be equal
        assert isinstance(error, Interrupted) or "too little" in str(error)
    finally:
        store.close()
    return torch.cat([p.detach().flatten() for p in tiny.model.parameters()]), taken


def test_it_goes_on_behind_its_last_milestone(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, steps = asyncio.run(run(tmp_path / "whole", None))
    assert len(steps) >= 14
    undisturbed, Counted.played = Counted.played, 0
    trained = [asyncio.run(run(tmp_path / "cut", last))[1] for last in (3, 8, 6)]
    assert [len(t) for t in trained] == [3, 8, 6], "the first round is trained once more, the second one too"
    weights, rest = asyncio.run(run(tmp_path / "cut", None))
    assert torch.equal(weights, whole)
    assert rest == list(itertools.chain(steps[10:])), "skill is behind it: only the habit is left"
    assert Counted.played <= undisturbed + 3 * 4 * 64, "at most the chunks in flight are played again"
