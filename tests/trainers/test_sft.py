"""The driver for demonstrations."""

import itertools

import pytest

from agentrl.trainers.optimiser import OptimiserSettings, Schedule
from agentrl.trainers.sft import sft
from agentrl.trainers.updater import Updater
from tests.trainers.making import context, small_model

SETTINGS = OptimiserSettings(learning_rate=1e-2, schedule=Schedule(warmup_steps=2, decay_from=0.5, final=0.0))


def test_it_follows_the_schedule_and_stops() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=5)
    batches = itertools.repeat([context(0, [3]), context(1, [2, 2])])
    metrics = list(sft(updater, batches, steps=5))
    assert [m.step for m in metrics] == [1, 2, 3, 4, 5]
    assert [m.stats.learning_rate for m in metrics] == pytest.approx([5e-3, 1e-2, 1e-2, 2e-2 / 3, 0.0])
    assert {m.stats.num_tokens for m in metrics} == {7}
    assert metrics[-1].stats.loss < metrics[0].stats.loss and updater.version == 5


def test_it_ends_with_its_demonstrations_or_when_nobody_asks_for_more() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=9)
    assert len(list(sft(updater, [[context(0, [3])]] * 2, steps=9))) == 2
    next(sft(updater, itertools.repeat([context(0, [3])]), steps=9))
    assert updater.version == 3
