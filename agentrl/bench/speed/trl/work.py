"""What both sides train: the same prompts, groups and lengths, by the same algorithm."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from agentrl.bench.speed.trl.policy import FRAME, SHAPES, Shape, Turns, save_policy
from agentrl.bench.speed.trl.side import Choice
from agentrl.bench.speed.trl.world import TURNS, Words
from agentrl.dialect.hermes import TOOLS_HEAD, TOOLS_TAIL
from agentrl.registry import resolve_env

WORLD = "agentrl.bench.speed.trl.world:Words"
ROOM = 1024
"""Tokens of a context beyond those that are sampled: prompt and observations."""
SEED = 0
COMMON = {"learning_rate": 1e-6, "beta2": 0.99, "clip_low": 0.2, "clip_high": 0.28}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One step: `prompts` groups of `group_size` episodes of three turns."""

    size: str
    prompts: int
    group_size: int = 8
    turn: int = 64
    """Tokens of a turn where lengths are equal."""
    lengths: Literal["equal", "lognormal"] = "equal"
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the training pass; the weights are float32 in any case."""

    @property
    def name(self) -> str:
        """Size, and what is not as usual."""
        unusual = (self.lengths, self.precision)
        return ".".join([self.size, *(x for x in unusual if x not in ("equal", "fp32"))])

    @property
    def episodes(self) -> int:
        """Of a step."""
        return self.prompts * self.group_size

    @property
    def sampled(self) -> int | None:
        """Tokens that each side must sample in a step; None where lengths are drawn."""
        return self.episodes * TURNS * self.turn if self.lengths == "equal" else None

    @property
    def turns(self) -> Turns:
        """What the policy writes."""
        filler = [self.turn - FRAME] if self.lengths == "equal" else lognormal_lengths()
        return Turns(filler=filler, tool="look", argument="word")

    @property
    def longest(self) -> int:
        """Tokens of the longest turn."""
        return max(self.turns.tokens)

    def save(self, folder: Path) -> int:
        """Write the checkpoint that both sides begin with; gives the number of parameters."""
        shape = Shape(**SHAPES[self.size], context=ROOM + TURNS * self.longest)
        return save_policy(folder, self.texts(), shape, self.turns)

    def texts(self) -> list[str]:
        """Give what the tokenizer learns from."""
        schemas = [json.dumps(tool.schema()) for tool in Words().tools]
        return [Words.system, TOOLS_HEAD, TOOLS_TAIL, *schemas, *self.questions(8)] * 2

    def questions(self, steps: int) -> list[str]:
        """Give the words of the tasks in the order that our training takes them."""
        env = Words()
        tasks = resolve_env(WORLD).tasks("train", seed=SEED).take(steps * self.prompts)
        return [asyncio.run(env.begin(task)).text for task in tasks]

    def conversations(self, steps: int) -> dict[str, Any]:
        """Give the same as conversations, and the tools beside them."""
        system = {"role": "system", "content": Words.system}
        asked = [[system, {"role": "user", "content": text}] for text in self.questions(steps)]
        return {"prompts": asked, "tools": [tool.schema() for tool in Words().tools]}

    def for_trl(self, choice: Choice, *, steps: int) -> dict[str, Any]:
        """Give keywords of `GRPOConfig`."""
        return choice.settings(episodes=self.episodes) | {
            "bf16": self.precision == "bf16",
            "max_steps": steps,
            "num_generations": self.group_size,
            "max_completion_length": ROOM // 2 + TURNS * self.longest,
            "max_tool_calling_iterations": TURNS - 1,
            "learning_rate": COMMON["learning_rate"],
            "lr_scheduler_type": "constant",
            "adam_beta2": COMMON["beta2"],
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "epsilon": COMMON["clip_low"],
            "epsilon_high": COMMON["clip_high"],
            "loss_type": "dapo",
            "beta": 0.0,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "gradient_checkpointing": False,
            "shuffle_dataset": False,
            "use_cpu": True,
            "dataloader_pin_memory": False,
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }

    def for_us(self, *, steps: int) -> dict[str, Any]:
        """Give settings of `agentrl train`."""
        return COMMON | {
            "steps": steps,
            "groups_per_step": self.prompts,
            "group_size": self.group_size,
            "minibatches": 1,
            "update.precision": self.precision,
            "rollout.max_tokens_per_turn": 2 * self.longest,
            "eval.tasks": 1,
            "checkpoint.every": steps + 1,
        }


def lognormal_lengths(
    median: float = 48, sigma: float = 0.8, longest: int = 160, count: int = 16
) -> list[int]:
    """Give equally likely lengths, the middles of the slices of a log-normal distribution that is cut.

    >>> lognormal_lengths(count=8)
    [14, 23, 31, 40, 51, 64, 84, 121]
    """
    length_N = np.arange(1, longest + 1)
    density_N = np.exp(-0.5 * (np.log(length_N / median) / sigma) ** 2) / length_N
    share_N = density_N.cumsum() / density_N.sum()
    found: list[int] = (1 + share_N.searchsorted((np.arange(count) + 0.5) / count)).tolist()
    return found
