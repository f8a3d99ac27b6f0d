"""What `--dry-run` says of a run, and what the run then takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentrl import ToolEnv
from agentrl.trainers.saving import save_folder
from agentrl.trainers.session import train
from agentrl.trainers.simulate import counter
from agentrl.trainers.tiny.tokenizer import make_tokenizer
from agentrl.trainers.updater import Updater


class Rambling(ToolEnv):
    """Rewards any answer by its length, so that every episode of an untrained model teaches."""

    def task(self, rng: np.random.Generator) -> str:
        return f"say something of {rng.integers(10**6)}"

    def reward(self, answer: str) -> float:
        return (len(answer) % 7) / 7


NAME = f"{__file__}:Rambling"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = make_tokenizer(["say something of words and 1 2 3"] * 3)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    return str(save_folder(tmp_path_factory.mktemp("hf") / "model", Qwen2ForCausalLM(config), tokenizer))


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
    asked: dict[str, Any] = {"model": checkpoint, "steps": 2, "settings": small | settings}
    said = train(NAME, dry_run=True, **asked)
    taken: list[int] = []
    for name in ("annotate", "policy_step"):
        monkeypatch.setattr(Updater, name, counting(getattr(Updater, name), taken))
    result = train(NAME, **asked)
    assert result["failures"] == {} and len(taken) == 4
    assert 2 * said["train_flops_per_step"] == pytest.approx(sum(taken), rel=0.2)


def counting(real: Any, taken: list[int]) -> Any:
    """Wrap a method so that its operations are counted."""

    def counted(self: Updater, *args: Any, **more: Any) -> Any:
        with counter() as flops:
            result = real(self, *args, **more)
        taken.append(flops.get_total_flops())
        return result

    return counted
