"""An untrained checkpoint, and a process that forks killable runs."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentrl.codec import encode, from_bytes
from agentrl.registry import EnvSpec
from agentrl.trainers.run.saving import save_folder
from agentrl.trainers.tiny.make import make_tiny
from tests.store.nursery import Nursery, Point
from tests.store.server import postgres_server
from tests.trainers.tiny.envs import LookUp

HERE = Path(__file__).parent
STEPS = 3
AT_STEP_3 = Point(function="Store.commit", event="call", count=3)
TIMINGS = ("seconds", "per_second", "idle_share")


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Give the process that forks runs."""
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Give the address of a PostgreSQL server that runs as long as the tests."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an untrained model in the form of a Hugging Face checkpoint."""

    async def make() -> Any:
        spec = EnvSpec(name="look", kind=LookUp)
        async with spec.open() as worker:
            return await make_tiny(worker, spec.tasks("train"), seed=0)

    tiny = asyncio.run(make())
    return save_folder(tmp_path_factory.mktemp("hf") / "model", tiny.model, tiny.tokenizer)


def command(checkpoint: Path, *more: str, env: str = "word.py:Word", name: str = "x") -> tuple[str, ...]:
    """Give the words of a small training run."""
    settings = {
        "groups_per_step": 2,
        "group_size": 3,
        "minibatches": 2,
        "eval.tasks": 2,
        "rollout.max_tokens_per_turn": 5,
        "rollout.max_episodes": 1,
        "learning_rate": 0.003,
        "kl": 0.01,
    }
    words = [f"--set={key}={value}" for key, value in settings.items()]
    head = ("train", env, "--model", str(checkpoint), "--steps", str(STEPS), "--seed", "3", "--run", name)
    return (*head, "--json", *words, *more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All that must be equal between a run that was killed and one that was not."""

    weights: str
    metrics: tuple[Any, ...]
    episodes: tuple[Any, ...]
    tasks: tuple[Any, ...]
    executed: int


def outcome(folder: Path, result: dict[str, Any], name: str = "x") -> Outcome:
    """Read what a finished run left behind, timings left out."""
    database = sqlite3.connect(folder / "runs" / name / "run.db")
    try:
        metrics = database.execute("select step, name, value from metrics order by step, name").fetchall()
        rows = database.execute("select phase, step, id, data from episodes order by phase, step, id, work")
        episodes = tuple((p, s, i, without_timings(encode(from_bytes(d)))) for p, s, i, d in rows)
        used = "select task, step, count(*) from episodes where phase = 'train' group by task, step"
        tasks = tuple(sorted(database.execute(used).fetchall()))
    finally:
        database.close()
    return Outcome(
        weights=result["weights_sha256"],
        metrics=tuple(m for m in metrics if not any(t in m[1] for t in TIMINGS)),
        episodes=episodes,
        tasks=tasks,
        executed=len((folder / "executed.log").read_text().splitlines()),
    )


def without_timings(data: Any) -> Any:
    """Leave wall-clock times out of an episode."""
    if isinstance(data, list):
        return [without_timings(v) for v in data]
    if isinstance(data, dict):
        return {
            k: without_timings(v) for k, v in data.items() if not k.endswith("seconds") and k != "seconds"
        }
    return data


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a folder with the environment in it."""
    (tmp_path / "word.py").write_text((HERE / "word.py").read_text())
    return tmp_path


@pytest.fixture(scope="session")
def killed(nursery: Nursery, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kill a run while it commits its third step; gives the folder that it was started in."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "word.py").write_text((HERE / "word.py").read_text())
    code, child = nursery.run(*command(checkpoint), folder=folder, kill=AT_STEP_3)
    assert code == -9, child.err
    return folder


@pytest.fixture
def stopped(killed: Path, place: Path) -> Path:
    """Give the folder of such a run in a place of its own."""
    shutil.copy(killed / "executed.log", place)
    return shutil.copytree(killed / "runs/x", place / "runs/x", dirs_exist_ok=True)


@pytest.fixture(scope="session")
def undisturbed(nursery: Nursery, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run once without any trouble."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "word.py").write_text((HERE / "word.py").read_text())
    code, child = nursery.run(*command(checkpoint), folder=folder)
    assert code == 0, child.err
    return outcome(folder, json.loads(child.out.splitlines()[-1]))
