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


A_STEP = 2 * 3 * 2
"""Groups, attempts and turns of a training step."""


def finish(nursery: Nursery, checkpoint: Path, place: Path, *more: str) -> Outcome:
    code, child = nursery.run(*command(checkpoint, *more), folder=place)
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
    killed = finish(nursery, checkpoint, place)
    same(killed, undisturbed)
    assert killed.executed <= undisturbed.executed + A_STEP


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
    kills = kill_at_random(nursery, checkpoint, place, seconds=(0.1, 1.5))
    killed = finish(nursery, checkpoint, place)
    same(killed, undisturbed)
    assert kills and killed.executed <= undisturbed.executed + kills * A_STEP


def test_of_a_longer_run_less_than_a_tenth_is_done_twice(
    nursery: Nursery, checkpoint: Path, place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    longer = ("--steps=30", "--set=stop_success=0")
    calm = tmp_path_factory.mktemp("calm")
    (calm / "word.py").write_text((place / "word.py").read_text())
    undisturbed = finish(nursery, checkpoint, calm, *longer)
    kills = kill_at_random(nursery, checkpoint, place, *longer, seconds=(1.0, 3.0))
    killed = finish(nursery, checkpoint, place, *longer)
    same(killed, undisturbed)
    assert kills and killed.executed <= 1.1 * undisturbed.executed


def kill_at_random(
    nursery: Nursery, checkpoint: Path, place: Path, *more: str, seconds: tuple[float, float]
) -> int:
    """Kill the run up to five times after a random time; gives how often it was killed before its end."""
    rng = random.Random(7)
    for kills in range(5):
        child = nursery.start(*command(checkpoint, *more), folder=place)
        if child.wait_at_most(rng.uniform(*seconds)) is not None:
            assert child.wait() == 0, child.err
            return kills
        child.kill()
        child.wait()
    return 5


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
