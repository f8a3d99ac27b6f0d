"""One number from one loss per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from agentrl.errors import ConfigError
from agentrl.trainers.losses import aggregate
from agentrl.trainers.parts import Tokens

Within = Literal["token_mean", "token_sum", "const"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMean:
    """Aggregate: every token weighs the same."""

    def __call__(self, loss_N: Tensor, tokens: Tokens) -> Tensor:
        return aggregate.token_mean(loss_N, num_tokens=tokens.totals.num_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeMean:
    """Aggregate: mean over episodes of the mean, sum, or sum / `max_length` over their tokens."""

    within: Within = "token_mean"
    max_length: int | None = None
    count_empty_rows: bool = False
    """Whether episodes without a trained token count in the mean, as in TRL."""

    def __post_init__(self) -> None:
        if self.within not in get_args(Within):
            raise ConfigError(f"within={self.within!r}: need one of {', '.join(get_args(Within))}")
        if (self.within == "const") != (self.max_length is not None):
            raise ConfigError(f"max_length={self.max_length} with within={self.within!r}: they go together")
        if self.max_length is not None and self.max_length < 1:
            raise ConfigError(f"max_length={self.max_length}: need 1 or more")

    def __call__(self, loss_N: Tensor, tokens: Tokens) -> Tensor:
        totals = tokens.totals
        count = totals.num_episodes + (totals.num_empty if self.count_empty_rows else 0)
        if self.within == "token_mean":
            return aggregate.seq_mean_token_mean(loss_N, tokens.length_N, num_episodes=count)
        if self.max_length is None:
            return aggregate.seq_mean_token_sum(loss_N, num_episodes=count)
        return aggregate.const_norm(loss_N, num_episodes=count, max_length=self.max_length)
