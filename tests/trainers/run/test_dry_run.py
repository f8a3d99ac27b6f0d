"""What `--dry-run` says of a run, and what the run then takes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentrl import ToolEnv, tool
from agentrl.environment import StepResult
from agentrl.message import Action, call
from agentrl.trainers.passes.simulate import counter
from agentrl.trainers.run.saving import save_folder
from agentrl.trainers.run.session import train
from agentrl.trainers.tiny.tokenizer import make_tokenizer
from agentrl.trainers.updater import Updater
from tests.learning.envs.two_hop import TwoHop


class Rambling(ToolEnv):
    """Rewards any answer by its length, so that every episode of an untrained model teaches."""

    def task(self, rng: np.random.Generator) -> str:
        return f"say something of {rng.integers(10**6)}"

    def reward(self, answer: str) -> float:
        return (len(answer) % 7) / 7


class Looking(Rambling):
    """Takes whatever is said in the first turns for a call, so that trees of an untrained model fork."""

    max_turns = 8

    @tool
    def look(self) -> str:
        """Look around."""
        return "say something of words"

    async def act(self, action: Action) -> StepResult:
        assert self._play is not None
        last = self._play.turn + 1 == self.max_turns
        return await super().act(Action(text=action.text) if last else call("look"))


class Unpaid(Looking):
    """Pays nothing, so that every group is flat, and lets one go on for long."""

    max_turns = 20

    def reward(self, answer: str) -> float:
        return 0.0


NAME = f"{__file__}:Rambling"
LOOKING = f"{__file__}:Looking"
PEAK = """
import json, re, sys
from pathlib import Path
from agentrl.trainers.run.session import train

name, asked = json.loads(sys.argv[1])
result = train(name, **asked)
peak = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**10
print(json.dumps({"peak": peak, "said": result.get("process_mib")}))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("hf") / "model")


def saved(folder: Path, **shape: int) -> str:
    """Write an untrained model with its tokenizer."""
    tokenizer = make_tokenizer(["say something of words and 1 2 3"] * 3)
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
    }
    return str(save_folder(folder, Qwen2ForCausalLM(Qwen2Config(**small | shape)), tokenizer))


@pytest.mark.parametrize(
    "settings",
    [{}, {"minibatches": 1, "inner_epochs": 2}, {"kl": 0.1, "kl_in": "loss"}, {"update.path": "packed"}],
    ids=["plain", "epochs", "reference", "packed"],
)
def test_the_operations_of_a_step(
    settings: dict[str, Any], checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 20 % of what is counted while the steps run, passes that only score included."""
    monkeypatch.chdir(tmp_path)
    small = {"groups_per_step": 12, "rollout.max_tokens_per_turn": 32, "eval.tasks": 4}
    said, taken = said_and_taken(NAME, checkpoint, small | settings, monkeypatch)
    assert said == pytest.approx(taken, rel=0.2)


@pytest.mark.parametrize(
    "settings", [{"update.path": "shared"}, {"minibatches": 1, "kl": 0.1, "kl_in": "loss"}], ids=["", "whole"]
)
def test_the_operations_of_a_step_of_trees(
    settings: dict[str, Any], checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leaves have in common is computed once, so the groups played are those of the run's strategy."""
    monkeypatch.chdir(tmp_path)
    tree = {"rollout.strategy": "tree", "strategy.initial": 2, "strategy.fork_chance": 0.3, "group_size": 8}
    small = {"groups_per_step": 4, "rollout.max_tokens_per_turn": 16, "eval.tasks": 1}
    said, taken = said_and_taken(LOOKING, checkpoint, tree | small | settings, monkeypatch)
    assert said == pytest.approx(taken, rel=0.2)


@pytest.mark.parametrize("strategy", ["independent", "tree"])
def test_it_says_where_an_expert_played_no_trees(strategy: str) -> None:
    """A model without a warm start would play nothing alike, and an expert plays flat groups."""
    settings = {"rollout.strategy": strategy, "groups_per_step": 1}
    source = train(TwoHop, dry_run=True, settings=settings)["estimated_from"]
    assert "expert" in source and ("rollout.strategy=tree" in source) == (strategy == "tree")


def said_and_taken(
    name: str, model: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[float, float]:
    """Give the operations of two steps, as `--dry-run` says and as they are counted while the steps run."""
    asked: dict[str, Any] = {"model": model, "steps": 2, "settings": settings}
    said = train(name, dry_run=True, **asked)
    taken: list[int] = []
    for part in ("annotate", "policy_step"):
        monkeypatch.setattr(Updater, part, counting(getattr(Updater, part), taken))
    result = train(name, **asked)
    assert result["failures"] == {} and len(taken) == 4
    return 2 * said["train_flops_per_step"], sum(taken)


def test_the_most_that_is_sampled(checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups in the place of flat ones count, and an episode has the turns that the environment names."""
    monkeypatch.chdir(tmp_path)
    small = {"groups_per_step": 2, "group_size": 2, "rollout.max_tokens_per_turn": 2, "eval.tasks": 1}
    asked: dict[str, Any] = {"model": checkpoint, "algorithm": "dapo", "steps": 2}
    asked["settings"] = small | {"max_generations": 3}
    said = train(f"{__file__}:Unpaid", dry_run=True, **asked)
    result = train(f"{__file__}:Unpaid", **asked)
    assert (said["episodes"], said["episodes_at_most"]) == (8, 24) and result["episodes"] == 24
    assert said["sampled_tokens_at_most"] == 24 * 20 * 2


MIDDLE = {"vocab_size": 8000, "hidden_size": 256, "num_hidden_layers": 4}
LARGE = {"vocab_size": 2000, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 4}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("shape", "more"),
    [
        (MIDDLE, {}),
        ({"vocab_size": 30000}, {}),
        (MIDDLE, {"update.checkpointing": True}),
        (MIDDLE, {"update.precision": "bf16"}),
        (MIDDLE, {"kl": 0.1, "kl_in": "loss"}),
        (LARGE, {"update.lora_rank": 16, "update.checkpointing": True, "groups_per_step": 1}),
    ],
    ids=["plain", "vocabulary", "checkpoints", "bf16", "reference", "adapter"],
)
def test_the_memory_of_a_run(shape: dict[str, int], more: dict[str, Any], tmp_path: Path) -> None:
    """Within 20 % of the most that the run then holds, each in a process of its own."""
    folder = saved(tmp_path / "model", **shape)
    settings = {"groups_per_step": 6, "group_size": 4, "rollout.max_tokens_per_turn": 48, "eval.tasks": 4}
    asked = {"model": folder, "steps": 2, "settings": settings | more}
    said = in_process(tmp_path, asked | {"dry_run": True})["said"]
    assert said == pytest.approx(in_process(tmp_path, asked)["peak"], rel=0.2)


def in_process(folder: Path, asked: dict[str, Any]) -> dict[str, float]:
    """Train in a process of its own; its memory is not that of earlier tests."""
    command = [sys.executable, "-c", PEAK, json.dumps([NAME, asked])]
    paths = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])}
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | paths
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True, timeout=300
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def counting(real: Any, taken: list[int]) -> Any:
    """Wrap a method so that its operations are counted."""

    def counted(self: Updater, *args: Any, **more: Any) -> Any:
        with counter() as flops:
            result = real(self, *args, **more)
        taken.append(flops.get_total_flops())
        return result

    return counted
