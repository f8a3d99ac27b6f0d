"""A model folder as something that plays: model, tokenizer, dialect and engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from agentrl.dialect import dialect_for
from agentrl.engine.loading import load_model
from agentrl.engine.torch_engine import TorchEngine
from agentrl.rollout.protocol import Limits
from agentrl.rollout.running import Table

LIMITS_FILE = "agentrl.json"
"""Beside the model: the limits that it was trained with."""


def read_limits(folder: Path) -> Limits:
    """Give the limits that a model was trained with; the defaults where it says nothing."""
    try:
        data = json.loads((folder / LIMITS_FILE).read_text()).get("limits", {})
    except (OSError, ValueError):
        return Limits()
    known = {f.name for f in fields(Limits)}
    return Limits(**{k: v for k, v in data.items() if k in known})


class LimitsFile:
    """Writes the limits into a model folder as it is saved."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def save_pretrained(self, save_directory: str) -> None:
        """Write the file."""
        text = json.dumps({"limits": asdict(self._limits)}, indent=2)
        (Path(save_directory) / LIMITS_FILE).write_text(text + "\n")


@asynccontextmanager
async def table_of(folder: str) -> AsyncIterator[Table]:
    """Load a model and serve it.

    Raises:
        ConfigError: The folder is no model that can be served.
    """
    model, tokenizer = load_model(folder)
    engine = TorchEngine(model, decode=decoder(tokenizer))
    try:
        yield Table(engine=engine, dialect=dialect_for(tokenizer), limits=read_limits(Path(folder)))
    finally:
        await engine.close()


def decoder(tokenizer: Any) -> Any:
    """Give the function that turns ids into text, control tokens included."""
    return lambda ids: tokenizer.decode(list(ids), skip_special_tokens=False)
