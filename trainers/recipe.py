"""A recipe: every stage of a training step as a part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agentrl.errors import ConfigError
from agentrl.trainers.optimiser import OptimiserSettings
from agentrl.trainers.parts import (
    Advantage,
    Aggregate,
    Bounds,
    Callback,
    Correction,
    ForwardSpec,
    GroupTransform,
    Ratio,
    Regulariser,
    RewardTransform,
    Score,
    Shaper,
    Surrogate,
    forward_spec,
)
from agentrl.trainers.saturation import FROM_SCRATCH, Saturation, Stop
from agentrl.trainers.standard.advantages import GroupAdvantage
from agentrl.trainers.standard.aggregates import TokenMean
from agentrl.trainers.standard.bounds import FixedBounds
from agentrl.trainers.standard.ratios import TokenRatio
from agentrl.trainers.standard.rewards import EnvironmentReward
from agentrl.trainers.standard.surrogates import PpoClip

TruncationPolicy = Literal["keep", "mask"]
COUNTS = ("steps", "groups_per_step", "group_size", "minibatches", "inner_epochs", "max_generations")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureBudget:
    """How much infrastructure may fail before the run stops."""

    share: float = 0.2
    """Largest share of failed episodes among the last `window`."""
    window: int = 64
    minimum: int = 16
    """Episodes that must have ended before the share is looked at."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"failure_share={self.share}: need a value in [0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What one step does, in the order of the fields.

    An algorithm is a function that returns one, such as `agentrl.trainers.grpo.grpo`; to change a part of a
    ready recipe, use `dataclasses.replace`.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The keywords that made it; with `name` they reproduce it."""
    steps: int = 40
    stop: Stop | Literal["auto"] | None = None
    """Ends a run before its last step; `auto`: see `resolved`."""
    groups_per_step: int = 32
    group_size: int = 8
    temperature: float = 1.0

    score: Score = field(default_factory=EnvironmentReward)
    reward_transforms: tuple[RewardTransform, ...] = ()
    group_transforms: tuple[GroupTransform, ...] = ()
    max_generations: int = 1
    """How often a step samples, at most, until `groups_per_step` groups are left after the transforms; each
    time as many as are missing. After the last it goes on with what there is."""
    advantage: Advantage = field(default_factory=GroupAdvantage)
    shapers: tuple[Shaper, ...] = ()
    truncation: TruncationPolicy = "keep"
    """`mask`: truncated episodes count in their groups' means, and their own tokens are not trained."""

    minibatches: int = 2
    """Optimiser steps that share the episodes of a step."""
    inner_epochs: int = 1
    """Passes over the episodes of a step."""
    ratio: Ratio = field(default_factory=TokenRatio)
    bounds: Bounds = field(default_factory=FixedBounds)
    surrogate: Surrogate = field(default_factory=PpoClip)
    correction: Correction | None = None
    regularisers: tuple[Regulariser, ...] = ()
    aggregate: Aggregate = field(default_factory=TokenMean)

    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    callbacks: tuple[Callback, ...] = ()
    failures: FailureBudget = field(default_factory=FailureBudget)

    def __post_init__(self) -> None:
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: need 1 or more")
        if self.max_generations > 1 and not self.group_transforms:
            raise ConfigError(
                f"max_generations={self.max_generations}: without use here; it needs a group transform that"
                " leaves groups out"
            )
        if not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"temperature={self.temperature}: training samples, so it needs a finite number above 0"
            )
        if self.truncation not in ("keep", "mask"):
            raise ConfigError(f"truncation={self.truncation!r}: need 'keep' or 'mask'")
        self.forward_spec()

    def resolved(self, *, from_scratch: bool, adapter: bool = False) -> Recipe:
        """Fill in what was left open: the learning rate, and when to stop.

        >>> Recipe(name="mine", stop="auto").resolved(from_scratch=True).stop
        Saturation(success=0.985, window=5)
        """
        stop = self.stop
        if stop == "auto":
            stop = Saturation(success=FROM_SCRATCH) if from_scratch else None
        optimiser = self.optimiser.resolved(from_scratch=from_scratch, adapter=adapter)
        return replace(self, stop=stop, optimiser=optimiser)

    def forward_spec(self) -> ForwardSpec:
        """Gather what the parts read; nothing else is computed."""
        before = [self.advantage, *self.shapers]
        loss = [self.ratio, self.bounds, self.surrogate, self.correction]
        during = [part for part in (*loss, *self.regularisers, self.aggregate) if part is not None]
        return forward_spec(before, during)

    @property
    def teaches_without_advantage(self) -> bool:
        """Whether tokens of zero advantage can have a gradient."""
        return bool(self.regularisers) or not getattr(self.surrogate, "uses_advantage", True)
