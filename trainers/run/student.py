"""What is trained: a model with its tokenizer, dialect and limits, and an engine that serves a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrl.checkpoint import Manner, decoder
from agentrl.dialect import dialect_for
from agentrl.dialect.protocol import Dialect
from agentrl.engine.loading import load_model
from agentrl.engine.torch_engine import TorchEngine
from agentrl.rollout.protocol import Limits
from agentrl.rollout.running import Table
from agentrl.toolkit import ToolSpec


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
