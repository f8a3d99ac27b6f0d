"""A model folder as something that plays: model, tokenizer, dialect and engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from agentrl.dialect import dialect_for
from agentrl.engine.loading import load_model
from agentrl.engine.torch_engine import TorchEngine
from agentrl.errors import ConfigError
from agentrl.rollout.protocol import Limits
from agentrl.rollout.running import Table
from agentrl.toolkit import ToolSpec

MANNER_FILE = "agentrl.json"
"""Beside the model: how it played when it was trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a model plays; a model folder keeps it."""

    limits: Limits = field(default_factory=Limits)
    dialect: str = "auto"
    """One of `agentrl.dialect.DIALECTS`."""

    def save_pretrained(self, save_directory: str) -> None:
        """Write it into a model folder as that is saved."""
        (Path(save_directory) / MANNER_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    def changed(self, *, max_tokens: int | None, dialect: str, limits: Mapping[str, Any]) -> Manner:
        """Put what somebody chose in the place of what the model was trained with."""
        given = dict(limits) if max_tokens is None else {**limits, "max_tokens_per_turn": max_tokens}
        return Manner(limits=replace(self.limits, **given), dialect=dialect or self.dialect)


def read_manner(folder: Path) -> Manner:
    """Give how a model played when it was trained; the defaults where its folder says nothing.

    Raises:
        ConfigError: What it says makes no sense.
    """
    file = folder / MANNER_FILE
    try:
        text = file.read_text()
    except OSError:
        return Manner()
    known = {f.name for f in fields(Limits)}
    try:
        data = json.loads(text)
        limits = Limits(**{k: v for k, v in data.get("limits", {}).items() if k in known})
        return Manner(limits=limits, dialect=str(data.get("dialect", "auto")))
    except (AttributeError, TypeError, ValueError, ConfigError) as error:
        raise ConfigError(f"{file} cannot be read ({error}): mend or remove it") from None


@asynccontextmanager
async def table_of(folder: str, manner: Manner, *, tools: Sequence[ToolSpec]) -> AsyncIterator[Table]:
    """Load a model and serve it.

    Raises:
        ConfigError: The folder is no model that can be served, or its tokenizer lacks what the dialect needs.
    """
    model, tokenizer = load_model(folder)
    dialect = dialect_for(tokenizer, manner.dialect, tools=tools)
    engine = TorchEngine(model, decode=decoder(tokenizer))
    try:
        yield Table(engine=engine, dialect=dialect, limits=manner.limits)
    finally:
        await engine.close()


def decoder(tokenizer: Any) -> Any:
    """Give the function that turns ids into text, control tokens included."""
    return lambda ids: tokenizer.decode(list(ids), skip_special_tokens=False)
