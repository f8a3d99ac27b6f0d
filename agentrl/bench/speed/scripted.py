"""What rollouts are measured with: an environment with one tool, and a model that is instant."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agentrl.dialect.tiny import CONTROL, END, PAD, TinyDialect
from agentrl.engine.scripted import Script
from agentrl.episode import Episode
from agentrl.errors import InfrastructureError
from agentrl.message import answer, call
from agentrl.rollout.protocol import RolloutStrategy, WorkItem
from agentrl.task import Task
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool


@functools.cache
def dialect() -> TinyDialect:
    """The tiny dialect over the letters and digits that these environments use."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    model: Any = models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[])
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in CONTROL])
    kind: Any = PreTrainedTokenizerFast
    tokenizer = kind(tokenizer_object=backend, pad_token=PAD, eos_token=END)
    return TinyDialect(tokenizer)


class Waiting(ToolEnv):
    """Its tool blocks for as long as the episode's plan says; the answer is always right."""

    max_turns = 64

    def __init__(self, seconds: Sequence[float] = ()) -> None:
        self._seconds = list(seconds)

    def task(self, rng: np.random.Generator) -> str:
        self._left = iter(self._seconds)
        return f"Wait {rng.integers(10**9)}."

    @tool
    def wait(self) -> str:
        """Wait."""
        time.sleep(next(self._left, 0.0))
        return "done"

    def reward(self, answer: str) -> float:
        return 1.0


class Light(Waiting):
    """The same without a thread of its own: it never blocks."""

    blocking = False

    @tool
    def wait(self) -> str:
        """Do nothing."""
        return "done"


def script(num_calls: int, *, padding: int = 0) -> Script:
    """A model that calls the tool so often, then answers.

    Args:
        num_calls: Turns with a call.
        padding: Further tokens of words in each turn.
    """
    tools = Waiting().tools
    words = "x" * padding
    calling: list[int] = dialect().render(call("wait"), tools).tolist()
    answering: list[int] = dialect().render(answer("1"), tools).tolist()
    fill: list[int] = dialect().render(answer(words), tools).tolist()[:-1]
    agent = int(dialect().prompt("", (), ()).ids[-1])  # stands before each turn

    def turn(ids: tuple[int, ...], seed: int) -> list[int]:
        return fill + (calling if ids.count(agent) <= num_calls else answering)

    return turn


def work(episodes: int, *, group: int = 1) -> list[WorkItem]:
    """Give tasks to play."""
    return [
        WorkItem(task=Task(id=f"t{i}", split="train", level=0, seed=i), group_id=f"g{i}", size=group, seed=i)
        for i in range(episodes)
    ]


async def played(
    strategy: RolloutStrategy, items: Sequence[WorkItem], seen: Callable[[Episode], None]
) -> None:
    """Play all items and look at each episode.

    Raises:
        InfrastructureError: An episode failed, so nothing was measured.
    """
    async for group in strategy.collect(items):
        for episode in group.episodes:
            if episode.failure is not None:
                raise InfrastructureError(f"{episode.id}: {episode.failure.message}")
            seen(episode)
