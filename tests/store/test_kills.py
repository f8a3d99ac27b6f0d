"""Killed with SIGKILL at any point, the same command goes on as if nothing had happened."""

import json
import random
from pathlib import Path

import pytest

from tests.store.conftest import Outcome, command, outcome
from tests.store.nursery import Nursery, Point

PLACES = (
    Point(function="RunLock.__init__", event="return"),
    Point(function="Keeper.open", event="return"),
    Point(function="Store.record.<locals>.write", event="return", count=2),
    Point(function="Store.commit.<locals>.write", event="return", count=2),
    Point(function="Store.commit", event="return", count=2),
    Point(function="replace", event="c_call", count=3),
    Point(function="fsync", event="c_call", count=6),
    Point(function="fsync", event="c_return", count=7),
    Point(function="TorchEngine.update", event="call", count=3),
    Point(function="TorchEngine.update", event="return", count=2),
    Point(function="Optimiser.apply", event="call", count=4),
    Point(function="Word.step", event="call", count=40),
    Point(function="evaluate_model", event="call", count=4),
    Point(function="Session.finish", event="call"),
    Point(function="save_folder", event="return"),
)


def finish(nursery: Nursery, checkpoint: Path, place: Path) -> Outcome:
    code, child = nursery.run(*command(checkpoint), folder=place)
    assert code == 0, child.err
    return outcome(place, json.loads(child.out.splitlines()[-1]))


def same(killed: Outcome, undisturbed: Outcome) -> None:
    assert killed.weights == undisturbed.weights
    assert killed.metrics == undisturbed.metrics
    assert killed.tasks == undisturbed.tasks
    assert killed.episodes == undisturbed.episodes


@pytest.mark.parametrize("point", PLACES, ids=str)
def test_killed_at_a_point(
    point: Point, nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome
) -> None:
    code, child = nursery.run(*command(checkpoint), folder=place, kill=point)
    assert code == -9, f"never came there: {child.err}"
    same(finish(nursery, checkpoint, place), undisturbed)


def test_killed_again_and_again(
    nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome
) -> None:
    rng = random.Random(7)
    kills = 0
    while kills < 6:
        child = nursery.start(*command(checkpoint), folder=place)
        if child.wait_at_most(rng.uniform(0.0, 1.5)) is not None:
            break
        child.kill()
        child.wait()
        kills += 1
    killed = finish(nursery, checkpoint, place)
    same(killed, undisturbed)
    assert kills >= 3
