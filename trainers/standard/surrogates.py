"""One loss per token from ratio, bounds and advantage."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from agentrl.errors import ConfigError
from agentrl.trainers.losses import surrogate
from agentrl.trainers.parts import Bound, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoClip:
    """Surrogate: PPO's clipped objective, with a second bound for bad actions if `dual_clip` is given."""

    dual_clip: float | None = None

    def __post_init__(self) -> None:
        if self.dual_clip is not None and not self.dual_clip > 1:
            raise ConfigError(f"dual_clip={self.dual_clip}: need more than 1")

    def __call__(self, log_ratio_N: Tensor, bounds: tuple[Bound, Bound], tokens: Tokens) -> Tensor:
        low, high = bounds
        clipped_N = surrogate.is_clipped(log_ratio_N, tokens.advantage_N, low=low, high=high)
        if self.dual_clip is not None:
            dual_N = surrogate.is_dual_clipped(log_ratio_N, tokens.advantage_N, dual_clip=self.dual_clip)
            tokens.record("dual_clipped", dual_N.sum())
            clipped_N = clipped_N | dual_N
        tokens.record("clipped", clipped_N.sum())
        return surrogate.ppo_clip(
            log_ratio_N, tokens.advantage_N, low=low, high=high, dual_clip=self.dual_clip
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cispo:
    """Surrogate: log pi, weighted by the bounded ratio; a token at a bound is counted and still learns."""

    def __call__(self, log_ratio_N: Tensor, bounds: tuple[Bound, Bound], tokens: Tokens) -> Tensor:
        low, high = bounds
        ratio_N = log_ratio_N.detach().exp()
        tokens.record("weight_bounded", ((ratio_N < low) | (ratio_N > high)).sum())
        return surrogate.cispo(log_ratio_N, tokens.logp_N, tokens.advantage_N, low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sapo:
    """Surrogate: a soft gate on the ratio."""

    temperature_positive: float = 1.0
    temperature_negative: float = 1.05

    def __post_init__(self) -> None:
        for name in ("temperature_positive", "temperature_negative"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"{name}={getattr(self, name)}: need a finite number above 0")

    def __call__(self, log_ratio_N: Tensor, bounds: tuple[Bound, Bound], tokens: Tokens) -> Tensor:
        return surrogate.sapo(
            log_ratio_N,
            tokens.advantage_N,
            temperature_positive=self.temperature_positive,
            temperature_negative=self.temperature_negative,
        )
