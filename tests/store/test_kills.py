"""Killed with SIGKILL at any point, the same command goes on as if nothing had happened."""

import json
import random
from pathlib import Path

import pytest

from tests.store.conftest import Outcome, command, outcome
from tests.store.nursery import Nursery, Point

FIRST = (
    Point(function="RunLock.__init__", event="return"),
    Point(function="Keeper.open", event="return"),
    Point(function="Store.record.<locals>.write", event="return"),
    Point(function="evaluate_model", event="call"),
)
"""Before the first step."""
PLACES = (
    Point(function="Store.record.<locals>.write", event="return", count=2),
    Point(function="Store.commit.<locals>.write", event="return", count=2),
    Point(function="Store.commit", event="return", count=2),
    Point(function="replace", event="c_call", count=3),
    Point(function="fsync", event="c_call", count=6),
    Point(function="fsync", event="c_return", count=7),
    Point(function="TorchEngine.update", event="call", count=3),
    Point(function="TorchEngine.update", event="return", count=2),
    Point(function="Optimiser.apply", event="call", count=4),
    Point(function="Word.step", event="call", count=26),
    Point(function="Word.step", event="return", count=33),
    Point(function="evaluate_model", event="call", count=9),
    Point(function="Session.finish", event="call"),
    Point(function="save_folder", event="return"),
)


def finish(nursery: Nursery, checkpoint: Path, place: Path) -> Outcome:
    code, child = nursery.run(*command(checkpoint), folder=place)
    assert code == 0, child.err
    assert not list((place / "runs").rglob(".*")), "a draft was left behind"
    return outcome(place, json.loads(child.out.splitlines()[-1]))


def same(killed: Outcome, undisturbed: Outcome) -> None:
    assert killed.weights == undisturbed.weights
    assert killed.metrics == undisturbed.metrics
    assert killed.tasks == undisturbed.tasks
    assert killed.episodes == undisturbed.episodes


def kill(nursery: Nursery, checkpoint: Path, place: Path, *points: Point) -> None:
    for point in points:
        code, child = nursery.run(*command(checkpoint), folder=place, kill=point)
        assert code == -9, f"never came to {point}: {child.err}"


@pytest.mark.parametrize("point", PLACES, ids=str)
def test_killed_at_a_point(
    point: Point, nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome
) -> None:
    kill(nursery, checkpoint, place, point)
    same(finish(nursery, checkpoint, place), undisturbed)


def test_killed_before_the_first_step_over_and_over(
    nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome
) -> None:
    kill(nursery, checkpoint, place, *FIRST)
    same(finish(nursery, checkpoint, place), undisturbed)


def test_killed_while_it_resumes(
    nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome
) -> None:
    resuming = (
        Point(function=f, event="return") for f in ("Store.rewind", "load_weights", "Loop.load_state_dict")
    )
    kill(nursery, checkpoint, place, Point(function="Store.commit", event="return", count=2), *resuming)
    same(finish(nursery, checkpoint, place), undisturbed)


def test_killed_at_random(nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome) -> None:
    """At most a step's work is done again for each kill."""
    rng, kills = random.Random(7), 0
    while kills < 5:
        child = nursery.start(*command(checkpoint), folder=place)
        if child.wait_at_most(rng.uniform(0.1, 1.5)) is None:
            child.kill()
            kills += 1
        if child.wait() == 0:
            break
    killed = finish(nursery, checkpoint, place)
    same(killed, undisturbed)
    a_step = 2 * 2 * 3
    assert killed.executed <= undisturbed.executed + kills * a_step


def test_killed_with_its_rows_in_postgresql(
    nursery: Nursery, checkpoint: Path, place: Path, undisturbed: Outcome, postgres: str
) -> None:
    words = command(checkpoint, f"--set=store.url={postgres}")
    for point in (
        Point(function="Store.commit", event="call", count=2),
        Point(function="Word.step", count=3),
    ):
        code, child = nursery.run(*words, folder=place, kill=point)
        assert code == -9, child.err
    code, child = nursery.run(*words, folder=place)
    assert code == 0, child.err
    result = json.loads(child.out.splitlines()[-1])
    assert result["weights_sha256"] == undisturbed.weights
    code, child = nursery.run("runs", "x", "--json", folder=place)
    (shown,) = json.loads(child.out.splitlines()[-1])["runs"]
    assert [m["step"] for m in shown["metrics"]] == [1, 2, 3] and not (place / "runs/x/run.db").exists()
    code, child = nursery.run("runs", "--remove", "x", folder=place)
    assert code == 0 and not (place / "runs/x").exists(), child.err
