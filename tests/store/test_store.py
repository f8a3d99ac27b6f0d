"""Rows go in and come out as they were, in SQLite and in a real PostgreSQL server."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrl.codec import to_bytes
from agentrl.episode import Group
from agentrl.errors import ConfigError
from agentrl.store.database import check_url
from agentrl.store.errors import StoreError
from agentrl.store.store import TRAIN, Store
from agentrl.task import Task
from tests.trainers.making import context, episode


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres"))


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path, run=tmp_path.name[:32], url=url)
    yield store
    store.erase()
    store.close()


def group(name: str, *rewards: float) -> Group:
    members = (episode(f"{name}/{i}", reward, context(i, [2, 3])) for i, reward in enumerate(rewards))
    return Group(id=name, episodes=tuple(members))


def task(name: str) -> Task:
    return Task(id=name, split="train", level=0, seed=3, payload={"question": "wie viel\0?", "n": 1.5})


def test_episodes_come_back_to_the_bit_in_their_order(store: Store) -> None:
    played = group("a", 0.1, -0.0, math.pi, 1e-300)
    store.record(played, task("a"), phase=TRAIN, step=1, work="w")
    store.record(group("b", 1.0), task("b"), phase=TRAIN, step=2, work="w")
    (found,) = store.groups(phase=TRAIN, step=1).values()
    assert [to_bytes(e) for e in found] == [to_bytes(e) for e in played.episodes]
    assert store.groups(phase="before", step=1) == {}
    assert store.task("a") == task("a")
    assert store.ids() == ["a/0", "a/1", "a/2", "a/3", "b/0"]
    assert {phase: e.id for phase, e in store.episodes("a/2").items()} == {TRAIN: "a/2"}


def test_a_group_that_is_played_again_takes_the_place_of_the_old_one(store: Store) -> None:
    store.record(group("a", 1.0, 2.0), task("a"), phase=TRAIN, step=1, work="w")
    store.record(group("a", 3.0), task("a"), phase=TRAIN, step=1, work="w")
    assert [e.reward for e in store.groups(phase=TRAIN, step=1)["w"]] == [3.0]


def test_names_that_no_database_takes(store: Store) -> None:
    strange = "nul\0 and half \ud800 of a pair"
    store.record(group(strange, 1.0), task(strange), phase=TRAIN, step=1, work="w")
    assert store.groups(phase=TRAIN, step=1)["w"][0].id == f"{strange}/0"
    assert list(store.episodes(f"{strange}/0")) == [TRAIN] and store.task(strange).id == strange


def test_numbers_come_back_with_their_types(store: Store) -> None:
    numbers = {
        "step": 1,
        "loss": 0.1 + 0.2,
        "success": None,
        "skipped": False,
        "failures": {"tool": 2},
        "gain": math.inf,
    }
    store.commit(1, numbers)
    assert store.metrics() == [numbers] and store.last_step == 1


def test_what_lies_behind_a_checkpoint_is_removed(store: Store) -> None:
    for step in (1, 2, 3):
        store.record(group(f"g{step}", 1.0), task("t"), phase=TRAIN, step=step, work="w")
        store.record(group(f"h{step}", 1.0), task("t"), phase="before-sampled", step=0, work=f"w{step}")
        store.commit(step, {"step": step})
    store.record(group("g4", 1.0), task("t"), phase=TRAIN, step=4, work="w")
    store.rewind(2)
    assert [m["step"] for m in store.metrics()] == [1, 2] and store.last_step == 2
    assert [bool(store.groups(phase=TRAIN, step=s)) for s in (1, 2, 3, 4)] == [True, True, True, False]
    assert len(store.groups(phase="before-sampled", step=0)) == 3
    with pytest.raises(StoreError, match="holds 2 of the 5 steps"):
        store.rewind(5)
    store.commit(3, {"step": 3})


def test_runs_that_share_a_database_do_not_meet(store: Store, url: str, tmp_path: Path) -> None:
    other = Store(tmp_path, run="another", url=url)
    try:
        for one in (store, other):
            one.record(group("a", 1.0), task("a"), phase=TRAIN, step=1, work="w")
            one.keep("name", [one.run])
            one.commit(1, {"who": one.run})
        other.erase()
        assert other.ids() == [] and other.last_step == 0 and other.kept("name") is None
        assert store.ids() == ["a/0"] and store.metrics() == [{"who": store.run}]
    finally:
        other.close()


def test_results_are_kept_until_they_are_forgotten(store: Store) -> None:
    store.keep("warm-1", (1, 2.5, None))
    store.keep("warm-1", (1, 2.5, "new"))
    store.keep("warm%", 1)
    store.keep("read", "r")
    assert store.kept("warm-1") == (1, 2.5, "new") and store.kept("nothing") is None
    store.forget("warm-")
    assert [store.kept(n) for n in ("warm-1", "warm%", "read")] == [None, 1, "r"]


def test_an_error_while_writing_comes_with_the_next_call(store: Store) -> None:
    store.keep("x", object())
    with pytest.raises(TypeError, match="cannot be stored"):
        store.commit(1, {"step": 1})
    assert store.last_step == 0


def test_no_step_is_committed_behind_rows_that_were_lost(store: Store) -> None:
    store.keep("before", 1)
    assert store.kept("before") == 1
    store.keep("lost", object())
    for _ in range(2):
        with pytest.raises(TypeError, match="cannot be stored"):
            store.commit(1, {"step": 1})
        with pytest.raises(TypeError, match="cannot be stored"):
            store.keep("after", 2)
    assert store.last_step == 0 and store.kept("before") == 1


@pytest.mark.parametrize(
    ("url", "cue"),
    [
        ("postgresql://me:secret@host/db", "set PGPASSWORD"),
        ("postgresql://me@host/db?password=secret", "set PGPASSWORD"),
        ("mysql://host/db", "need postgresql://"),
        ("no address", "need postgresql://"),
    ],
)
def test_an_address_that_cannot_be_used(url: str, cue: str) -> None:
    with pytest.raises(ConfigError, match=cue) as caught:
        check_url(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    url = f"postgresql://me@/db?host={tmp_path}"
    with pytest.raises(StoreError, match="can be reached"):
        Store(tmp_path, run="x", url=url)
