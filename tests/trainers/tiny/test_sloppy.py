"""Sloppy demonstrators: both knobs do what they say, in any environment."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from agentrl.errors import ConfigError
from agentrl.message import Action
from agentrl.registry import EnvSpec, Worker
from agentrl.task import SeededTasks
from agentrl.trainers.tiny.demonstrations import Demonstrations, share_correct
from agentrl.trainers.tiny.habits import Habit, Sloppy, candidates
from agentrl.trainers.tiny.make import Tiny, make_tiny
from agentrl.trainers.tiny.play import expert_of, play_many
from agentrl.trainers.tiny.sloppy import another_argument, last_values, repertoire_of
from tests.trainers.tiny.envs import AlwaysRight, BadTeacher, Echo, LongWinded, LookUp, NoExpert


def worker_of(kind: type) -> Worker:
    return Worker(spec=EnvSpec(name=kind.__name__, kind=kind), shared=None)


def tasks(seed: int = 0) -> SeededTasks:
    return SeededTasks(seed=seed)


def made(kind: type) -> tuple[Worker, Tiny]:
    worker = worker_of(kind)
    return worker, asyncio.run(make_tiny(worker, tasks(1)))


def calibrated(kind: type) -> Demonstrations:
    worker, tiny = made(kind)
    found = Demonstrations(worker=worker, tiny=tiny, tasks=tasks(2), seed=0)
    asyncio.run(found.calibrate())
    return found


@pytest.mark.parametrize("kind", [LookUp, Echo])
def test_noise_and_habit_solve_the_stated_share(kind: type) -> None:
    found = calibrated(kind)
    noisy = share_correct(asyncio.run(found.play(256, noise=found.noise)))
    habitual = share_correct(asyncio.run(found.play(256, noise=found.noise, habit=found.habit)))
    assert 0.7 < noisy < 0.97 and habitual <= 0.1
    share = found.settings.habit_share(noisy, habitual)
    assert share > 0.5
    assert share * habitual + (1 - share) * noisy == pytest.approx(found.settings.target, abs=0.02)


def test_without_noise_and_habit_it_is_the_expert() -> None:
    worker, tiny = made(LookUp)

    def sloppy(number: int) -> Sloppy:
        rng = np.random.default_rng(number)
        return Sloppy(expert_of(worker.spec)(number), tiny.repertoire, noise=0.0, habit=None, rng=rng)

    async def both() -> tuple[list[list[Action]], list[list[Action]]]:
        clean = await play_many(worker, expert_of(worker.spec), tasks().take(20))
        same = await play_many(worker, sloppy, tasks().take(20))
        return [e.actions for e in clean], [e.actions for e in same]

    clean, same = asyncio.run(both())
    assert clean == same


def test_noise_stays_within_what_clean_episodes_hold() -> None:
    _, tiny = made(LookUp)
    rng = np.random.default_rng(0)
    right = tiny.repertoire.calls["price"][0]
    wrong = [another_argument(Action(calls=(right,)), tiny.repertoire, rng) for _ in range(40)]
    items = {a.calls[0].arguments["item"] for a in wrong if a is not None}
    assert items == {"pear", "fig", "lime", "plum"} - {right.arguments["item"]}


def test_an_expert_that_fails_off_its_path_gives_up_and_one_that_fails_at_once_is_reported() -> None:
    _, tiny = made(LookUp)

    def expert(observations: Sequence[str]) -> Action:
        return LookUp().expert(list(observations))

    rng = np.random.default_rng(0)
    sloppy = Sloppy(expert, tiny.repertoire, noise=0.0, habit=None, rng=rng)
    assert sloppy(["What does a pear cost?", "sold 12, ask for another"]).is_answer
    with pytest.raises(IndexError):
        sloppy(["What?"])


def test_habits_are_found_in_any_form_of_action() -> None:
    forms = [repertoire_of(asyncio.run(clean(kind))) for kind in (LookUp, Echo)]
    assert all(isinstance(h, Habit) for f in forms for h in candidates(f))
    assert last_values(["Say 4, not 7."], "number") == ["4", "7"]


async def clean(kind: type) -> list:  # type: ignore[type-arg]
    worker = worker_of(kind)
    return await play_many(worker, expert_of(worker.spec), tasks().take(8))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (NoExpert, "has no expert"),
        (BadTeacher, r"expert\(\) solves 0.00"),
        (AlwaysRight, "no general mistake"),
        (LongWinded, "shorten the observations"),
    ],
)
def test_what_cannot_be_taught_is_refused_in_one_line(kind: type, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        calibrated(kind)
    assert "\n" not in str(error.value)
