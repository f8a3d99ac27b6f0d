"""What is trained: a model with its tokenizer, dialect and limits, and an engine that serves a copy of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from agentrl.checkpoint import LimitsFile, decoder
from agentrl.dialect import dialect_for
from agentrl.dialect.protocol import Dialect
from agentrl.engine.loading import load_model
from agentrl.engine.torch_engine import TorchEngine
from agentrl.rollout.protocol import Limits
from agentrl.rollout.running import Table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Student:
    """A model that can play and be trained."""

    model: Any
    tokenizer: Any
    dialect: Dialect
    limits: Limits = field(default_factory=Limits)

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
        return self.model, self.tokenizer, LimitsFile(self.limits)


def load_student(folder: str, limits: Limits) -> Student:
    """Load a checkpoint folder.

    Raises:
        ConfigError: It is none that can be trained.
    """
    model, tokenizer = load_model(folder)
    return Student(model=model, tokenizer=tokenizer, dialect=dialect_for(tokenizer), limits=limits)
