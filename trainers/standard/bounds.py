"""The range of the ratio in which a token earns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agentrl.errors import ConfigError
from agentrl.trainers.parts import Bound, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedBounds:
    """Bounds: [1 - low, 1 + high]."""

    low: float = 0.2
    high: float = 0.28

    def __post_init__(self) -> None:
        if not 0 <= self.low <= 1:
            raise ConfigError(f"clip_low={self.low}: need a value in [0, 1]")
        if not self.high >= 0:
            raise ConfigError(f"clip_high={self.high}: need 0 or more")

    def __call__(self, tokens: Tokens) -> tuple[Bound, Bound]:
        return 1 - self.low, 1 + self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Unbounded:
    """Bounds: every ratio, for a surrogate that has none."""

    def __call__(self, tokens: Tokens) -> tuple[Bound, Bound]:
        return 0.0, math.inf
