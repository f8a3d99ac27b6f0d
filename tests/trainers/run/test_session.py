"""A whole run: from its settings to its folder."""

import asyncio
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from agentrl.cli.main import main
from agentrl.engine.loading import load_model
from agentrl.errors import ConfigError
from agentrl.message import Action, answer, call
from agentrl.registry import EnvSpec
from agentrl.store.store import Store
from agentrl.task import ListedTasks, Split, Task, TaskSource
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from agentrl.trainers.run.plan import make_plan
from agentrl.trainers.run.saving import save_folder, weights_sha256
from agentrl.trainers.run.session import train
from agentrl.trainers.tiny.make import make_tiny

SMALL = {"groups_per_step": 2, "group_size": 2, "eval.tasks": 4, "rollout.max_tokens_per_turn": 6}


class Shop(ToolEnv):
    """Say a price."""

    max_turns = 2

    def task(self, rng: np.random.Generator) -> str:
        self.price = int(rng.integers(100))
        self.item = str(rng.choice(["pear", "plum", "fig"]))
        return f"price of {self.item}"

    @tool
    def look(self, item: str) -> int:
        """Look a price up."""
        return self.price

    def reward(self, answer: str) -> Any:
        return float(answer == str(self.price))

    def expert(self, seen: list[str]) -> Action:
        return call("look", item=seen[0].split()[-1]) if len(seen) == 1 else answer(seen[-1])


class Length(gymnasium.Env[str, str]):
    """Rewards long words, so that a random model's attempts differ."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return f"price of {self.np_random.choice(['pear', 'plum', 'fig'])}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "", len(action) / 50, True, False, {"correct": len(action) > 20}


class Listed(Length):
    """Has three tasks of each split."""

    @staticmethod
    def tasks(split: Split, *, level: int, seed: int) -> TaskSource:
        tasks = (Task(id=f"{split}-{i}", split=split, level=0, seed=i) for i in range(3))
        return ListedTasks(tasks=tuple(tasks), seed=seed)


class NotANumber(Shop):
    """Judges with NaN."""

    def reward(self, answer: str) -> float:
        return float("nan")


class Bytes(Shop):
    """Shows bytes."""

    def task(self, rng: np.random.Generator) -> Any:
        super().task(rng)
        return b"price"


class Peeker(Shop):
    """Its expert looks at what only the environment knows."""

    def expert(self, seen: list[str]) -> Action:
        return answer(str(self.price))


class Endless(Shop):
    """Shows more than a tiny model can hold."""

    def task(self, rng: np.random.Generator) -> str:
        return "word " * 60_000 + super().task(rng)


class NoExpert(ToolEnv):
    """Has nobody to learn from."""

    def task(self, rng: np.random.Generator) -> str:
        return "?"

    def reward(self, answer: str) -> float:
        return 0.0


NAME = f"{__file__}:Shop"
LENGTH = f"{__file__}:Length"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an untrained model in the form of a Hugging Face checkpoint."""

    async def make() -> Any:
        spec = EnvSpec(name="shop", kind=Shop)
        async with spec.open() as worker:
            return await make_tiny(worker, spec.tasks("train"), seed=0)

    tiny = asyncio.run(make())
    return save_folder(tmp_path_factory.mktemp("hf") / "model", tiny.model, tiny.tokenizer)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Notes:
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps = 0

    def phase(self, name: str, total: int) -> None: ...

    def advance(self, metrics: Any = None, *, steps: int = 1) -> None:
        self.steps += steps

    def remark(self, text: str) -> None: ...

    def note(self, text: str) -> None:
        self.lines.append(text)

    def close(self) -> None: ...


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    store = Store(folder, run=json.loads((folder / "config.json").read_text())["id"])
    try:
        return store.metrics()
    finally:
        store.close()


def test_a_checkpoint_is_trained_saved_and_found_again(checkpoint: Path, here: Path) -> None:
    notes = Notes()
    before = weights_sha256(load_model(str(checkpoint))[0])
    arguments: dict[str, Any] = {
        "model": str(checkpoint),
        "steps": 2,
        "run": "x",
        "settings": SMALL | {"learning_rate": 0.01},
    }
    result = train(LENGTH, **arguments, progress=notes)
    assert {"run", "steps", "success_before", "success_after", "weights_sha256", "failures"} <= result.keys()
    assert result["steps"] == notes.steps == 2 and result["episodes"] == 8 and result["failures"] == {}
    assert result["test_in_train"] == 1.0  # there are three tasks in all, and it says so
    assert any("test tasks are trained on as well" in line for line in notes.lines)
    trained, _ = load_model(f"{result['run']}/model")
    assert weights_sha256(trained) == result["weights_sha256"] != before
    rows = metrics_of(here / "runs/x")
    assert [r["step"] for r in rows] == [1, 2] and all(r["mismatch_max"] < 1e-4 for r in rows)
    assert "<svg" in (here / "runs/x/curve.svg").read_text()
    again = train(LENGTH, **arguments, progress=notes)
    assert again == json.loads(json.dumps(result)) and "is finished" in notes.lines[-1] and notes.steps == 2
    with pytest.raises(ConfigError, match="seed: 0 → 1"):
        train(LENGTH, **arguments, seed=1)


def test_a_run_measures_no_task_twice(checkpoint: Path, here: Path) -> None:
    notes = Notes()
    train(f"{__file__}:Listed", model=str(checkpoint), steps=1, run="x", settings=SMALL, progress=notes)
    assert any(line.endswith("has 3 test tasks, not 4: each is attempted once") for line in notes.lines)
    assert any(line.startswith("before: 3 test tasks:") for line in notes.lines)
    store = Store(here / "runs/x", run=json.loads((here / "runs/x/config.json").read_text())["id"])
    assert len(store.groups(phase="before-sampled", step=0)) == 3
    store.close()


def test_inspect_shows_every_token_of_a_group(checkpoint: Path, here: Path) -> None:
    notes = Notes()
    train(NAME, model=str(checkpoint), steps=1, settings=SMALL, inspect=True, progress=notes)
    heads = [line for line in notes.lines if line.startswith("episode ")]
    assert len(heads) == 2 and all("reward" in h for h in heads)
    sampled = [line.split() for line in notes.lines if " action " in line]
    assert sampled and all(cells[3] == "yes" and float(cells[4]) <= 0 <= float(cells[5]) for cells in sampled)
    assert any(" prompt " in line and "<|task|>" in line for line in notes.lines)


@pytest.mark.parametrize("settings", [{}, {"update.lora_rank": 4, "kl": 0.1}])
def test_a_dry_run_makes_nothing(settings: dict[str, Any], checkpoint: Path, here: Path) -> None:
    report = train(NAME, model=str(checkpoint), steps=5, settings=SMALL | settings, dry_run=True)
    model, _ = load_model(str(checkpoint))
    assert report["parameters"] == sum(p.numel() for p in model.parameters())
    memory, trained = report["memory_mib"], report["trained_parameters"]
    assert (trained < report["parameters"] / 4) == bool(settings)
    assert memory["optimiser"] == pytest.approx(8 * trained / 2**20, abs=0.1) and memory["reference"] == 0
    assert memory["total"] == pytest.approx(sum(v for k, v in memory.items() if k != "total"), abs=0.5)
    assert report["episodes"] == 20 and report["process_mib"] > memory["total"]
    assert report["train_flops_per_step"] > 2 * report["tokens_per_step"] * trained
    assert not list(here.iterdir())


def test_a_notebook_trains_as_a_script_does(checkpoint: Path, here: Path) -> None:
    """Its cells run inside an event loop."""

    def call(name: str) -> dict[str, Any]:
        settings = SMALL | {"learning_rate": 0.01, "rollout.max_episodes": 1}
        train(LENGTH, model=str(checkpoint), steps=1, settings=settings, dry_run=True)
        return train(LENGTH, model=str(checkpoint), steps=1, run=name, settings=settings)

    async def cell() -> dict[str, Any]:
        return call("cell")

    assert asyncio.run(cell())["weights_sha256"] == call("script")["weights_sha256"]


def test_an_adapter_is_trained_and_merged(checkpoint: Path, here: Path) -> None:
    """The weights of the run are those of an ordinary folder, and they moved."""
    settings = SMALL | {"update.lora_rank": 4, "learning_rate": 0.01, "update.path": "shared"}
    result = train(LENGTH, model=str(checkpoint), steps=2, settings=settings)
    saved, _ = load_model(str(Path(result["run"]) / "model"))
    before, _ = load_model(str(checkpoint))
    assert weights_sha256(saved) == result["weights_sha256"] != weights_sha256(before)
    assert dict(saved.named_parameters()).keys() == dict(before.named_parameters()).keys()


@pytest.mark.parametrize(
    ("env", "settings", "cue"),
    [
        (NAME, {"clip_hihg": 1}, "no setting 'clip_hihg'; did you mean 'clip_high'"),
        (NAME, {"evn.x": 1}, "no part 'evn'; did you mean 'env'"),
        (NAME, {"eval.task": 1}, "did you mean 'tasks'"),
        (NAME, {"rollout.level": 7}, "level=7: it has levels 0"),
        (NAME, {"group_size": 1}, "group_size=1"),
        (NAME, {"eval.tasks": 0}, "eval.tasks=0: need 1 or more"),
        (NAME, {"update.pth": "shared"}, "no setting 'pth'; did you mean 'path'"),
        (NAME, {"update.path": "share"}, "update.path='share': need one of 'auto', 'padded'"),
        (NAME, {"update.lora_alpha": "8"}, "update.lora_alpha=8.0: without use here; it needs lora_rank"),
        (NAME, {"learning_rate": "inf"}, "learning_rate=inf: need a finite number"),
        (NAME, {"warm.habit_bach": 8}, "did you mean 'habit_batch'"),
        (NAME, {"warm.batch": 0}, "warm.batch=0: need 1 or more"),
        (NAME, {"warm.habit_fresh": -1}, "warm.habit_fresh=-1: need 0 or more"),
        (NAME, {"warm.habit_rate": "inf"}, "warm.habit_rate=inf: need a value between 0 and 1"),
        (NAME, {"warm.enough": 5}, r"warm.enough=5.0: need a value in \[0, 1\]"),
        (NAME, {"warm.high": 0.9}, "warm.high=0.9: need 0 <= low < high <= 0.5"),
        (NAME, {"warm.rounds": 3}, "warm.rounds=3: need a value that only code can give"),
        (f"{__file__}:Endless", {}, "takes 60004 tokens or more, a tiny model at most 4096"),
        (f"{__file__}:NoExpert", {}, "no expert"),
        (
            f"{__file__}:Peeker",
            {},
            "expert.. raised AttributeError: .*price.*; it must act on the observations",
        ),
        (NAME, {"rollout.max_context": 9}, "rollout.max_context=9: an expert's episode takes"),
        (f"{__file__}:NotANumber", {}, "reward nan is not finite"),
        (f"{__file__}:Bytes", {}, "observation of type bytes"),
    ],
)
def test_a_mistake_is_one_clear_line(env: str, settings: dict[str, Any], cue: str, here: Path) -> None:
    with pytest.raises(ConfigError, match=cue) as caught:
        train(env, settings=settings)
    assert "\n" not in str(caught.value)


def test_a_wrong_model_path_and_a_prompt_that_does_not_fit(checkpoint: Path, here: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'tiny'"):
        make_plan(NAME, model="tini")
    with pytest.raises(ConfigError, match="does not fit into the context of 2"):
        train(NAME, model=str(checkpoint), settings=SMALL | {"rollout.max_context": 2})


def test_every_random_choice_follows_from_the_seed(checkpoint: Path, here: Path) -> None:
    torch.manual_seed(0)
    results = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.rand(1)
        settings = SMALL | {"learning_rate": 0.01, "rollout.max_episodes": 1}
        results.append(train(LENGTH, model=str(checkpoint), steps=1, seed=seed, run=name, settings=settings))
    hashes = [r["weights_sha256"] for r in results]
    assert hashes[0] == hashes[1] != hashes[2]


class Fades(Length):
    """Its server goes away after the first measurements."""

    steps = 0

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        type(self).steps += 1
        if type(self).steps > 8:
            raise ConnectionResetError(104, "the server is gone")
        return super().step(action)


def test_a_run_whose_infrastructure_is_gone_ends_with_reason_and_example(
    here: Path, checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    Fades.steps = 0
    name = f"{__file__}:Fades"
    assert main(["train", name, "--model", str(checkpoint), "--steps", "9", *settings]) == 3
    said = capfd.readouterr().err.splitlines()[-1]
    assert "attempts failed (allowed 20%)" in said and "of class 'environment'; episode 1-" in said
    assert said.endswith("ConnectionResetError: [Errno 104] the server is gone (ConnectionResetError)")
