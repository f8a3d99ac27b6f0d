"""What is added to the loss of a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from agentrl.errors import ConfigError
from agentrl.trainers.losses import kl
from agentrl.trainers.parts import Tokens

Estimator = Literal["k1", "k2", "k3", "k1+", "k3+", "k3_weighted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KlPenalty:
    """Regulariser: `weight` times an estimate of the divergence from the reference model."""

    weight: float
    estimator: Estimator = "k3"
    """k1, k2, k3; with `+` the gradient is that of k2; `k3_weighted` is k3 times the ratio of new to old."""
    limit: float = 20.0
    """Largest |log pi_ref - log pi|, and for `k3_weighted` |log pi_old - log pi|; beyond it value and
    gradient are those at the limit."""

    def __post_init__(self) -> None:
        if self.estimator not in get_args(Estimator):
            raise ConfigError(
                f"kl_estimator={self.estimator!r}: need one of {', '.join(get_args(Estimator))}"
            )

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"reference", "old"} if self.estimator == "k3_weighted" else {"reference"})

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Tensor | None]:
        here_N, limit = tokens.logp_N.detach(), self.limit
        others = {name: tokens[name] for name in self.reads}
        far = [(other_N - here_N).abs() > limit for other_N in others.values()]
        tokens.record("kl_limited", torch.stack(far).any(0).sum())
        near = {name: other_N.clamp(here_N - limit, here_N + limit) for name, other_N in others.items()}
        divergence_N = self._estimate(tokens.logp_N, **near)
        tokens.record_mean("kl", divergence_N)
        return self.weight * divergence_N, None

    def _estimate(self, logp_N: Tensor, *, reference: Tensor, old: Tensor | None = None) -> Tensor:
        plain = {"k1": kl.k1, "k2": kl.k2, "k3": kl.k3}[self.estimator[:2]]
        value_N = plain(logp_N, reference)
        if self.estimator.endswith("+"):
            return kl.with_gradient_of_k2(value_N, logp_N, reference)
        if old is not None:
            return kl.weighted(value_N, logp_N, old)
        return value_N
