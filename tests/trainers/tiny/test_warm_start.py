"""The warm start: its gates, and that it is a function of the seed."""

import asyncio

import numpy as np
import pytest
import torch

from agentrl.cli.main import exit_code
from agentrl.errors import ConfigError
from agentrl.task import SeededTasks
from agentrl.trainers.failures import FailureBudgetSpent
from agentrl.trainers.tiny.make import Tiny, make_tiny
from agentrl.trainers.tiny.measure import Played
from agentrl.trainers.tiny.model import TinyShape
from agentrl.trainers.tiny.start import warm_start
from agentrl.trainers.tiny.warm_start import Round, WarmStartReport, WarmStartSettings
from tests.trainers.tiny.envs import Echo, LookUp, Unlearnable
from tests.trainers.tiny.test_sloppy import worker_of

SHORT = WarmStartSettings(rounds=(Round(steps=20, rate=3e-3, fresh=8, good=0.75),), first=128, checks=32)


async def warmed(kind: type, settings: WarmStartSettings) -> tuple[Tiny, WarmStartReport]:
    worker = worker_of(kind)
    tiny = await make_tiny(worker, SeededTasks(seed=1), shape=TinyShape(max_context=128))
    return tiny, await warm_start(tiny, worker, SeededTasks(seed=2), settings=settings)


def test_a_model_that_does_not_learn_the_demonstrations_stops_and_says_so() -> None:
    with pytest.raises(ConfigError, match="did not learn the demonstrations.*checkpoint folder"):
        asyncio.run(warmed(Unlearnable, SHORT))


class Broken(LookUp):
    """The server behind its tasks is gone."""

    def task(self, rng: np.random.Generator) -> str:
        raise OSError("no route to host")


def test_a_measurement_in_which_all_failed_is_no_low_score() -> None:
    """Else a dead engine or environment would be answered with more and more training."""

    async def measured() -> float:
        tiny = await make_tiny(worker_of(LookUp), SeededTasks(seed=1), shape=TinyShape(max_context=128))
        return await Played(tiny, worker_of(Broken), SeededTasks(seed=2), seed=0)(8)

    said = "all 8 episodes of a measurement failed; the first, .* of class 'environment': .*no route to host"
    with pytest.raises(FailureBudgetSpent, match=said) as stopped:
        asyncio.run(measured())
    assert exit_code(stopped.value) == 3


def test_the_start_is_neither_hopeless_nor_good_and_a_function_of_the_seed() -> None:
    settings = WarmStartSettings(
        rounds=(Round(steps=100, rate=3e-3, fresh=8, good=0.75),), habit_batch=96, checks=96
    )
    tiny, report = asyncio.run(warmed(LookUp, settings))
    assert report.skill >= 0.7 * report.noisy_expert
    assert 0.06 <= report.sampled <= 0.5 and report.greedy <= 0.5
    assert report.habit_share > 0.5
    assert "sloppy expert that solves" in str(report)
    assert tiny.num_parameters < 500_000


def test_the_same_seed_gives_the_same_weights() -> None:
    settings = WarmStartSettings(
        rounds=(Round(steps=8, rate=1e-3, fresh=8, good=0.75),),
        first=64,
        checks=16,
        enough=0.0,
        habit_steps=4,
        low=0.0,
    )

    async def weights() -> torch.Tensor:
        worker = worker_of(Echo)
        tiny = await make_tiny(worker, SeededTasks(seed=1))
        try:
            await warm_start(tiny, worker, SeededTasks(seed=2), settings=settings)
        except ConfigError as error:  # eight steps teach nothing; what was trained until then must be equal
            assert "too little" in str(error)
        return torch.cat([p.detach().flatten() for p in tiny.model.parameters()])

    torch.testing.assert_close(asyncio.run(weights()), asyncio.run(weights()), rtol=0, atol=0)
