"""AdamW, its schedule, and the checks before a step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from agentrl.errors import ConfigError, RunStopped
from agentrl.trainers.comm import Comm

RATE_FROM_SCRATCH = 1e-3
RATE_CHECKPOINT = 1e-6
RATE_ADAPTER = 1e-5


class NonFiniteError(RunStopped, ArithmeticError):
    """A loss or a gradient that is no finite number; the weights are as they were before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Warm-up, a flat part, then a linear decay; a factor on the learning rate.

    >>> decay = Schedule(final=0.1)
    >>> [round(decay.factor(step, total=11), 2) for step in (0, 5, 10)]
    [1.0, 0.55, 0.1]
    """

    warmup_steps: int = 0
    decay_from: float = 0.0
    """Share of the steps after which the decay begins; 1 = never."""
    final: float = 1.0
    """Factor at the last step."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps={self.warmup_steps}: need 0 or more")
        for name in ("decay_from", "final"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}: need a value in [0, 1]")

    def factor(self, step: int, *, total: int) -> float:
        """Give the factor at `step`, counted from 0, of `total` steps."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        begin, last = self.decay_from * total, total - 1
        if step <= begin or last <= begin:
            return 1.0
        return 1.0 - (1.0 - self.final) * min(1.0, (step - begin) / (last - begin))


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserSettings:
    """AdamW with gradient clipping."""

    learning_rate: float | None = None
    """None: 1e-3 for a small model made on the spot, 1e-6 for a checkpoint, 1e-5 for its adapter."""
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    grad_clip: float = 1.0
    """Largest norm of the gradient; inf = no clipping."""
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        for name in ("learning_rate", "grad_clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}={value}: need more than 0")
        if self.learning_rate == math.inf:
            raise ConfigError("learning_rate=inf: need a finite number")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: need a value in [0, 1)")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"weight_decay={self.weight_decay}: need 0 or more, and finite")

    def resolved(self, *, from_scratch: bool, adapter: bool = False) -> OptimiserSettings:
        """Fill in a learning rate that was left open; an adapter alone learns best at ten times the rate.

        >>> OptimiserSettings().resolved(from_scratch=False).learning_rate
        1e-06
        """
        if self.learning_rate is not None:
            return self
        checkpoint = RATE_ADAPTER if adapter else RATE_CHECKPOINT
        return replace(self, learning_rate=RATE_FROM_SCRATCH if from_scratch else checkpoint)


class Optimiser:
    """AdamW over the parameters of a model; refuses to step on what is not finite."""

    def __init__(
        self, parameters: Iterable[Tensor], settings: OptimiserSettings, *, total_steps: int
    ) -> None:
        self.parameters = [p for p in parameters if p.requires_grad]
        small = [p.dtype for p in self.parameters if p.dtype not in (torch.float32, torch.float64)]
        if small:
            raise ConfigError(
                f"weights of type {small[0]} lose small steps: load float32, use precision='bf16'"
            )
        self.adam = torch.optim.AdamW(
            self.parameters,
            lr=_rate(settings),
            betas=(settings.beta1, settings.beta2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self.restart_schedule(settings, total_steps=total_steps)

    def restart_schedule(self, settings: OptimiserSettings, *, total_steps: int) -> None:
        """Begin another schedule at its step 0; the moments stay."""
        if total_steps < 1:
            raise ConfigError(f"total_steps={total_steps}: need 1 or more")
        self.settings, self.total_steps, self.step_count = settings, total_steps, 0

    @property
    def learning_rate(self) -> float:
        """The rate of the coming step."""
        return _rate(self.settings) * self.settings.schedule.factor(self.step_count, total=self.total_steps)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.adam.zero_grad(set_to_none=True)

    def apply(self, comm: Comm) -> float:
        """Clip and step once at the present rate; gives the norm before clipping.

        Raises:
            NonFiniteError: The norm is not finite.
        """
        gradients = [self._summed(p, comm) for p in self.parameters]
        norm = torch.nn.utils.get_total_norm(gradients)
        value = float(norm)
        if not math.isfinite(value):
            self.zero_grad()
            raise NonFiniteError(
                f"the gradient's norm is {value} at learning rate {self.learning_rate:.3g}: "
                "lower learning_rate, or look at the rewards and log-probs of the step"
            )
        if math.isfinite(self.settings.grad_clip):
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.settings.grad_clip, norm)
        for group in self.adam.param_groups:
            group["lr"] = self.learning_rate
        self.adam.step()
        self.zero_grad()
        return value

    def _summed(self, parameter: Tensor, comm: Comm) -> Tensor:
        """Sum a gradient over all processes; one without any token of its own gives zero."""
        local = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = comm.sum(local)
        return parameter.grad

    def advance(self) -> None:
        """Move the schedule on by one step of the driver; minibatches of one step share a rate."""
        self.step_count += 1

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "adam": self.adam.state_dict(),
            "step_count": self.step_count,
            "total_steps": self.total_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what a checkpoint kept."""
        self.adam.load_state_dict(state["adam"])
        self.step_count, self.total_steps = int(state["step_count"]), int(state["total_steps"])


def _rate(settings: OptimiserSettings) -> float:
    if settings.learning_rate is None:
        raise ConfigError("learning_rate is open: give a number, or use settings.resolved(from_scratch=...)")
    return settings.learning_rate
