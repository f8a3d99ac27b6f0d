"""`model="tiny"`: a model and a tokenizer out of an environment's own texts.

What comes out is a toy on purpose. It starts from random weights, is warm-started on demonstrations of the
environment's `expert()` that hold every right action (beside many wrong ones, see `warm_start`), and
reinforcement learning then re-weights what it has seen and flips its likeliest action. It learns this
family of tasks and nothing else; what it shows is that the environment, the rewards and the training work.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agentrl.dialect.tiny import TinyDialect
from agentrl.dialect.writing import write_value
from agentrl.environment import Environment
from agentrl.errors import ConfigError
from agentrl.registry import Worker
from agentrl.rollout.protocol import Limits
from agentrl.store.journal import Journal
from agentrl.task import TaskSource
from agentrl.trainers.tiny.habits import Habit
from agentrl.trainers.tiny.model import TinyShape, make_model
from agentrl.trainers.tiny.play import Played, context_of, expert_of, play_many
from agentrl.trainers.tiny.sloppy import Repertoire, repertoire_of
from agentrl.trainers.tiny.tokenizer import make_tokenizer, pieces_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

READING = 256
"""Expert episodes that are read for texts."""
LEAST_EXPERT = 0.5
"""Below this share of solved tasks the expert is no teacher."""
LONGEST = 4096
"""Tokens of the longest episode that a tiny model is made for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Which demonstrations a model was taught."""

    noise: float
    habit: Habit
    share: float
    """Of the episodes with the habit."""


@dataclass(slots=True, kw_only=True, eq=False)
class Tiny:
    """A model from scratch, its tokenizer and dialect, and what was learnt of the environment on the way."""

    model: Qwen2ForCausalLM
    tokenizer: PreTrainedTokenizerFast
    dialect: TinyDialect
    repertoire: Repertoire
    seed: int
    expert_success: float
    max_tokens_per_turn: int
    """Twice the longest action of a clean episode, and some."""
    max_turns: int
    """Twice the longest clean episode, and some; the environment's own limit may be lower."""
    longest: int
    """Tokens of the longest clean episode."""
    limits: Limits = field(default_factory=Limits)
    """What its demonstrations are played within."""
    taught: Mixture | None = None
    """What the warm start ended with."""

    @property
    def num_parameters(self) -> int:
        """Weights, counted once where they are shared."""
        return sum(p.numel() for p in self.model.parameters())

    def __str__(self) -> str:
        return f"tiny Qwen2, {self.num_parameters / 1e6:.2f}M, {len(self.tokenizer)} tokens, from scratch"


async def make_tiny(
    worker: Worker,
    tasks: TaskSource,
    *,
    seed: int = 0,
    shape: TinyShape | None = None,
    journal: Journal | None = None,
    limits: Limits | None = None,
) -> Tiny:
    """Read an environment's texts by letting its expert play, and make model and tokenizer for them.

    Args:
        worker: Makes the environment's instances.
        tasks: Of the training split; as many as are read are taken.
        seed: Of the weights.
        shape: Another size than the usual 0.4M parameters.
        journal: Keeps the episodes that were read.
        limits: How long a turn may take, and the turns of an environment that names no limit itself.

    Raises:
        ConfigError: No expert, one that does not solve its own tasks, or episodes too long for a tiny model.
    """
    name = worker.spec.name
    loading = asyncio.create_task(asyncio.to_thread(load_libraries))
    try:
        played = await play_many(
            worker, expert_of(worker.spec), tasks.take(READING), journal=journal, name="read", limits=limits
        )
    finally:
        await loading
    solved = sum(e.correct for e in played) / len(played)
    if solved < LEAST_EXPERT:
        raise ConfigError(
            f"{name}: its expert() solves {solved:.2f} of the tasks: model='tiny' needs one that "
            f"solves {LEAST_EXPERT} or more; `agentrl check {name}` shows where it fails"
        )
    env = worker.new()
    try:
        made = build(played, env, name, seed=seed, shape=shape, solved=solved)
        return replace(made, limits=limits or Limits())
    finally:
        await env.close()


def load_libraries() -> None:
    """Import what takes seconds, beside the episodes that are played meanwhile."""
    importlib.import_module("transformers.models.qwen2.modeling_qwen2")
    importlib.import_module("tokenizers")


def build(
    played: Sequence[Played],
    env: Environment,
    name: str,
    *,
    seed: int,
    shape: TinyShape | None,
    solved: float,
) -> Tiny:
    """Make tokenizer and model for clean episodes."""
    check_length(name, max(len(" ".join(e.observations).split()) for e in played))  # a token is no more
    texts = texts_of(played, env.system)
    tokenizer = make_tokenizer(texts)
    dialect = TinyDialect(tokenizer)
    contexts = [context_of(e, env, dialect) for e in played]
    longest = max(map(len, contexts))
    check_length(name, longest)
    action = max(len(s) for c in contexts for s in c.segments if s.kind == "action")
    turns = max(len(e.turns) for e in played)
    shape = replace(shape or TinyShape(), max_context=min(LONGEST, 64 + 2 * longest))
    return Tiny(
        model=make_model(tokenizer, seed=seed, shape=shape, numbers=numbers_of(texts)),
        tokenizer=tokenizer,
        dialect=dialect,
        repertoire=repertoire_of(played),
        seed=seed,
        expert_success=solved,
        max_tokens_per_turn=2 * action + 4,
        max_turns=2 * turns + 2,
        longest=longest,
    )


def check_length(name: str, longest: int) -> None:
    """Refuse episodes that a tiny model cannot hold.

    Raises:
        ConfigError: So they are.
    """
    if longest > LONGEST:
        raise ConfigError(
            f"{name}: an expert's episode takes {longest} tokens or more, a tiny model at most {LONGEST}: "
            "shorten the observations, or give a checkpoint folder as the model"
        )


def texts_of(played: Sequence[Played], system: str = "") -> list[str]:
    """Give everything that was read or written in some episodes, piece by piece as it is tokenised."""
    texts = [system] if system else []
    for episode in played:
        texts += episode.observations
        for action in episode.actions:
            texts += [action.text] if action.text else []
            for call in action.calls:
                texts += [call.name, *map(write_value, call.arguments.values())]
    return texts


def numbers_of(texts: Sequence[str]) -> tuple[int, ...]:
    """Give the numbers in some texts that may be single tokens.

    >>> numbers_of(["12 of 7 or 99999"])
    (12, 7)
    """
    return tuple(int(p) for t in texts for p in pieces_of(t) if p.isascii() and p.isdecimal() and len(p) < 4)
