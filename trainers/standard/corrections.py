"""Weights for tokens that the engine drew from a distribution other than the trainer's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from agentrl.errors import ConfigError
from agentrl.trainers.losses import mismatch
from agentrl.trainers.parts import Scope, Tokens

Kind = Literal["truncate", "mask"]
Level = Literal["token", "episode"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MismatchCorrection:
    """Correction: pi_old / pi_engine, clamped into [`low`, `high`] or set to 0 outside."""

    kind: Kind = "truncate"
    level: Level = "token"
    """Of one token, or the product over its episode."""
    low: float = 0.0
    high: float = 2.0
    reads: ClassVar[frozenset[str]] = frozenset({"old", "behaviour"})

    def __post_init__(self) -> None:
        if self.kind not in ("truncate", "mask"):
            raise ConfigError(f"mismatch={self.kind!r}: need 'truncate' or 'mask'")
        if self.level not in ("token", "episode"):
            raise ConfigError(f"mismatch_level={self.level!r}: need 'token' or 'episode'")
        if not (0 <= self.low <= 1 <= self.high) or math.isnan(self.high):
            raise ConfigError(
                f"mismatch_low={self.low}, mismatch_high={self.high}: need 0 <= low <= 1 <= high"
            )

    @property
    def scope(self) -> Scope:
        """A product needs the whole episode."""
        return self.level

    def __call__(self, tokens: Tokens) -> Tensor:
        weight_N = self._weights(tokens)
        acts_N = mismatch.outside(weight_N, low=self.low, high=self.high)
        apply = {"truncate": mismatch.truncate, "mask": mismatch.mask}[self.kind]
        weight_N = apply(weight_N, low=self.low, high=self.high)
        tokens.record("mismatch_truncated" if self.kind == "truncate" else "mismatch_masked", acts_N.sum())
        tokens.record_mean("mismatch_weight", weight_N)
        return weight_N

    def _weights(self, tokens: Tokens) -> Tensor:
        old_N, behaviour_N = tokens["old"], tokens["behaviour"]
        if self.level == "token":
            return mismatch.token_weights(old_N, behaviour_N)
        count = len(tokens.batch.reward_E)
        return mismatch.episode_weights(old_N, behaviour_N, tokens.episode_N, num_episodes=count)
