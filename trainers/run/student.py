"""What is trained: a model with its tokenizer, dialect and limits, and an engine that serves a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agentrl.checkpoint import Manner, decoder, read_manner
from agentrl.dialect import dialect_for
from agentrl.dialect.protocol import Dialect
from agentrl.engine.loading import load_model, model_folder
from agentrl.engine.torch_engine import TorchEngine
from agentrl.errors import ConfigError
from agentrl.evaluation import for_its_author
from agentrl.registry import Worker
from agentrl.rollout.protocol import Limits
from agentrl.rollout.running import Table
from agentrl.store.journal import Journal
from agentrl.toolkit import ToolSpec
from agentrl.trainers.run.plan import Plan
from agentrl.trainers.tiny.make import Tiny, make_tiny
from agentrl.trainers.tiny.model import TinyShape


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Student:
    """A model that can play and be trained."""

    model: Any
    tokenizer: Any
    dialect: Dialect
    manner: Manner = field(default_factory=Manner)

    @property
    def limits(self) -> Limits:
        """What ends its episodes."""
        return self.manner.limits

    @property
    def num_parameters(self) -> int:
        """Trainable numbers, tied ones once."""
        return sum(p.numel() for p in self.model.parameters())

    def serve(self) -> Table:
        """Start an engine over a copy of the weights; the trainer keeps the original."""
        engine = TorchEngine(copy.deepcopy(self.model), decode=decoder(self.tokenizer))
        return Table(engine=engine, dialect=self.dialect, limits=self.limits)

    def parts(self) -> tuple[Any, ...]:
        """Give what is written into a model folder."""
        return self.model, self.tokenizer, self.manner


def load_student(folder: str, manner: Manner, *, tools: Sequence[ToolSpec]) -> Student:
    """Load a checkpoint folder.

    Raises:
        ConfigError: It is none that can be trained, or its tokenizer lacks what the dialect needs.
    """
    model, tokenizer = load_model(folder)
    dialect = dialect_for(tokenizer, manner.dialect, tools=tools)
    return Student(model=model, tokenizer=tokenizer, dialect=dialect, manner=manner)


async def make_student(plan: Plan, worker: Worker, journal: Journal) -> tuple[Student, Tiny | None]:
    """Load the checkpoint, or make a tiny model of the environment's texts."""
    if not plan.tiny:
        dialect = read_manner(model_folder(plan.model)).dialect  # limits belong to the environment
        manner = plan.rollout.manner(Manner(dialect=dialect))
        return load_student(plan.model, manner, tools=await worker.tools()), None
    with for_its_author(plan.spec):
        tasks = plan.spec.tasks("train", level=plan.level, seed=plan.seed)
        shape = TinyShape(**asdict(plan.tiny_settings))
        within = plan.rollout.manner(Manner()).limits
        tiny = await make_tiny(worker, tasks, seed=plan.seed, shape=shape, journal=journal, limits=within)
    limits = Limits(max_tokens_per_turn=tiny.max_tokens_per_turn, max_turns=tiny.max_turns)
    manner = plan.rollout.manner(Manner(limits=limits, dialect=tiny.dialect.name))
    limits = manner.limits
    if limits.max_context is not None and limits.max_context < tiny.longest:
        raise ConfigError(
            f"rollout.max_context={limits.max_context}: an expert's episode takes {tiny.longest} tokens: "
            "give that many or more, or shorten the task"
        )
    return Student(model=tiny.model, tokenizer=tiny.tokenizer, dialect=tiny.dialect, manner=manner), tiny
