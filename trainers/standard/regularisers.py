"""What is added to the loss of a token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

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
    """Largest |log pi_ref - log pi|; beyond it value and gradient are those at the limit."""

    def __post_init__(self) -> None:
        if self.estimator not in get_args(Estimator):
            raise ConfigError(
                f"kl_estimator={self.estimator!r}: need one of {', '.join(get_args(Estimator))}"
            )

    @property
    def reads(self) -> frozenset[str]:
        return frozenset({"reference", "old"} if self.estimator == "k3_weighted" else {"reference"})

    def __call__(self, tokens: Tokens) -> tuple[Tensor, Tensor | None]:
        reference_N, here_N = tokens["reference"], tokens.logp_N.detach()
        tokens.record("kl_limited", ((reference_N - here_N).abs() > self.limit).sum())
        near_N = reference_N.clamp(here_N - self.limit, here_N + self.limit)
        divergence_N = self._estimate(tokens, near_N)
        tokens.record_mean("kl", divergence_N)
        return self.weight * divergence_N, None

    def _estimate(self, tokens: Tokens, reference_N: Tensor) -> Tensor:
        plain = {"k1": kl.k1, "k2": kl.k2, "k3": kl.k3}[self.estimator[:2]]
        value_N = plain(tokens.logp_N, reference_N)
        if self.estimator.endswith("+"):
            return kl.with_gradient_of_k2(value_N, tokens.logp_N, reference_N)
        if self.estimator == "k3_weighted":
            return kl.weighted(value_N, tokens.logp_N, tokens["old"])
        return value_N
