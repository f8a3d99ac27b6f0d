"""Parts that several algorithms choose in the same words."""

from __future__ import annotations

from typing import Literal, get_args

from agentrl.errors import ConfigError
from agentrl.trainers.common import unused
from agentrl.trainers.parts import Aggregate
from agentrl.trainers.standard import EpisodeMean, FixedBounds, PpoClip, TokenMean

Averaging = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const_norm"]


def average(name: Averaging, *, max_length: int | None = None, count_empty: bool | None = None) -> Aggregate:
    """Make the part.

    Raises:
        ConfigError: It does not exist, lacks `max_length`, or has no use for a setting.
    """
    if name != "const_norm" and max_length is not None:
        raise unused("max_length", max_length, "aggregate='const_norm'")
    if name == "token_mean":
        if count_empty is not None:
            raise unused("count_empty_rows", count_empty, "an average over episodes")
        return TokenMean()
    count = bool(count_empty)
    if name == "seq_mean_token_mean":
        return EpisodeMean(count_empty_rows=count)
    if name == "seq_mean_token_sum":
        return EpisodeMean(within="token_sum", count_empty_rows=count)
    if name != "const_norm":
        raise ConfigError(f"aggregate={name!r}: need one of {', '.join(get_args(Averaging))}")
    if max_length is None:
        raise ConfigError("aggregate='const_norm' needs max_length, the longest episode in tokens")
    return EpisodeMean(within="const", max_length=max_length, count_empty_rows=count)


def clip(*, low: float, high: float, dual: float | None) -> tuple[FixedBounds, PpoClip]:
    """Make PPO's bounds and surrogate.

    Raises:
        ConfigError: A bound out of range, or a dual clip inside the other one.
    """
    bounds, surrogate = FixedBounds(low=low, high=high), PpoClip(dual_clip=dual)
    if dual is not None and dual <= 1 + high:
        raise ConfigError(f"dual_clip={dual}: need more than 1 + clip_high, which is {1 + high:g}")
    return bounds, surrogate
