"""How the updater runs its passes, and what of the model it trains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, get_args

from torch import nn

from agentrl.errors import ConfigError, unknown
from agentrl.trainers.passes.forward import Forward, Precision
from agentrl.trainers.passes.planning import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettings:
    """Settings of the `Updater`, `update.x` on the command line; no gradient depends on the first three.

    >>> UpdateSettings(lora_rank=8).alpha
    16.0
    """

    max_tokens: int = 4096
    """Most tokens of one pass; padding counts, and a beginning that rows share counts once."""
    path: Path = "auto"
    """How rows go through the model: `padded` side by side, `packed` one behind the other, `shared`: packed,
    with common beginnings once; `auto` takes what is cheaper for each step."""
    checkpointing: bool = False
    """Make activations anew in the backward pass: less memory, about a third more time."""
    precision: Precision = "fp32"
    """`bf16` runs passes under autocast; the weights stay as they are."""
    lora_rank: int = 0
    """0 trains all weights; above, a low-rank adapter that is merged at the end."""
    lora_alpha: float | None = None
    """The adapter is scaled by lora_alpha / lora_rank; None: twice the rank."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"update.max_tokens={self.max_tokens}: need 1 or more")
        if self.lora_rank < 0:
            raise ConfigError(f"update.lora_rank={self.lora_rank}: need 0 or more")
        for name, kind in (("path", Path), ("precision", Precision)):
            if (value := getattr(self, name)) not in get_args(kind):
                raise ConfigError(f"update.{name}: {unknown('choice', value, get_args(kind))}")
        if self.lora_alpha is not None and not self.lora_rank:
            raise ConfigError(f"update.lora_alpha={self.lora_alpha}: without use here; it needs lora_rank")
        if self.lora_alpha is not None and not 0 < self.lora_alpha < math.inf:
            raise ConfigError(f"update.lora_alpha={self.lora_alpha}: need a finite number above 0")

    @property
    def alpha(self) -> float:
        """The scale of the adapter."""
        return 2.0 * self.lora_rank if self.lora_alpha is None else self.lora_alpha

    def forward(self, model: nn.Module) -> Forward:
        """Make the passes of a model."""
        names = ("max_tokens", "path", "checkpointing", "precision")
        chosen: dict[str, Any] = {name: getattr(self, name) for name in names}
        return Forward(model, **chosen)
