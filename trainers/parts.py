"""The kinds of parts that a recipe is made of, in the order in which the loop calls them.

A part is anything that can be called in this way: a frozen dataclass with settings, or a plain function.
Three optional attributes say what it needs:

* `reads`: names of columns that exist only if somebody reads them (`old`, `old_entropy`, `reference`,
  `entropy`);
* `scope`: what must not be cut when an update is cut into pieces that fit into memory
  (`token`, `episode`, `group`, `minibatch`);
* `uses_advantage`: False for a surrogate that works on rewards alone.

Shape letters: N trained tokens, E episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from agentrl.episode import Group, ScoredGroup
from agentrl.errors import ConfigError, unknown
from agentrl.trainers.batch import Row, TrainBatch
from agentrl.trainers.comm import Comm, LocalComm
from agentrl.trainers.passes.forward import Scores

if TYPE_CHECKING:
    from agentrl.trainers.metrics import StepMetrics
    from agentrl.trainers.updater import Updater

Scope = Literal["token", "episode", "group", "minibatch"]
SCOPES: tuple[Scope, ...] = ("token", "episode", "group", "minibatch")
READABLE = frozenset(
    {"old", "old_entropy", "reference", "entropy", "behaviour", "untempered", "sampled_entropy"}
)
Bound = Tensor | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """How far engine and trainer are apart on tokens that both have scored, in nats."""

    mean: float = 0.0
    largest: float = 0.0
    first: float = 0.0
    """Mean over first turns, before which nothing was written but the prompt."""

    @classmethod
    def of(cls, distance_N: Tensor, turn_N: Tensor) -> Mismatch:
        """Sum up distances; none is no distance."""
        if not len(distance_N):
            return cls()
        first_N = distance_N[turn_N == 0]
        first = float(first_N.mean()) if len(first_N) else 0.0
        return cls(mean=float(distance_N.mean()), largest=float(distance_N.max()), first=first)


@dataclass(slots=True, kw_only=True)
class StepContext:
    """Where the run stands; the same object goes through all parts of a step."""

    step: int = 0
    num_steps: int = 1
    version: int = 0
    """Weights that the step starts from."""
    scorer: Callable[[Sequence[Row]], Scores] | None = None
    """Further passes of the present policy without gradient, for transforms that need them."""
    judge: Callable[[Mismatch, Sequence[Row]], None] | None = None
    """Looks at the distance to the engine, and may stop the run, before the step's first optimiser step."""
    state: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What parts keep from step to step: part name, then task id; JSON data, checkpointed."""
    comm: Comm = field(default_factory=LocalComm)
    """Sums over the processes that train together, for parts that look at the whole batch."""
    records: dict[str, float] = field(default_factory=dict)
    """Sums that parts report before the update; shown in the metrics."""

    def record(self, name: str, value: float) -> None:
        """Add to a sum that the metrics show."""
        self.records[name] = self.records.get(name, 0.0) + value


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Denominators of one optimiser step, over all cuts and all processes."""

    num_tokens: float
    num_episodes: float
    """Those with at least one trained token."""
    num_empty: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """What the token-level parts see: a cut of an update, flat."""

    logp_N: Tensor
    """Under the present weights, attached to the graph."""
    advantage_N: Tensor
    episode_N: Tensor
    """Index into the episodes of `batch`."""
    length_N: Tensor
    """Trained tokens of the token's episode, in the whole update."""
    totals: Totals
    columns: Mapping[str, Tensor]
    batch: TrainBatch
    context: StepContext
    records: dict[str, Tensor] = field(default_factory=dict)
    """Sums that parts report, such as how often a limit acted; shown in the metrics."""
    means: dict[str, Tensor] = field(default_factory=dict)
    """(sum, count) of what parts report of each token; the metrics show the mean over the step."""

    def __getitem__(self, name: str) -> Tensor:
        """Give a column.

        Raises:
            ConfigError: Nobody declared to read it.
        """
        if name not in self.columns:
            raise ConfigError(
                f"{unknown('column', name, self.columns)}; a part that reads it says so in `reads`"
            )
        return self.columns[name]

    def record(self, name: str, value: Tensor) -> None:
        """Add to a sum that the metrics show."""
        self.records[name] = self.records[name] + value.detach() if name in self.records else value.detach()

    def record_mean(self, name: str, value_N: Tensor) -> None:
        """Add to a mean over tokens that the metrics show."""
        pair = torch.stack([value_N.detach().sum().double(), value_N.new_tensor(len(value_N)).double()])
        self.means[name] = self.means[name] + pair if name in self.means else pair


class Score(Protocol):
    """Gives the episodes of a group their rewards; failed ones are left out and counted."""

    def __call__(self, group: Group, context: StepContext, /) -> ScoredGroup: ...


class RewardTransform(Protocol):
    """Changes rewards."""

    def __call__(self, group: ScoredGroup, context: StepContext, /) -> ScoredGroup: ...


class GroupTransform(Protocol):
    """Adds episodes to a group or leaves some out, with a reason; an emptied group is dropped."""

    def __call__(self, group: ScoredGroup, context: StepContext, /) -> ScoredGroup: ...


class Advantage(Protocol):
    """Gives every trained token its advantage, [N]; `batch.spread` turns one value per episode into that."""

    def __call__(self, batch: TrainBatch, context: StepContext, /) -> Tensor: ...


class Shaper(Protocol):
    """Changes advantages after normalisation, [N] to [N]; nothing in it is differentiated."""

    def __call__(self, advantage_N: Tensor, batch: TrainBatch, context: StepContext, /) -> Tensor: ...


class Ratio(Protocol):
    """Gives the log of new to old probability, [N]."""

    def __call__(self, tokens: Tokens, /) -> Tensor: ...


class Bounds(Protocol):
    """Gives the range of the ratio in which a token earns: (low, high)."""

    def __call__(self, tokens: Tokens, /) -> tuple[Bound, Bound]: ...


class Surrogate(Protocol):
    """Gives one loss per token, [N], or a scalar that needs no aggregation."""

    def __call__(self, log_ratio_N: Tensor, bounds: tuple[Bound, Bound], tokens: Tokens, /) -> Tensor: ...


class Correction(Protocol):
    """Gives the detached weight of each token's surrogate, [N]; regularisers and averages do not see it."""

    def __call__(self, tokens: Tokens, /) -> Tensor: ...


class Regulariser(Protocol):
    """Gives what is added to the loss of each token, [N], and where it replaces the surrogate (or None)."""

    def __call__(self, tokens: Tokens, /) -> tuple[Tensor, Tensor | None]: ...


class Aggregate(Protocol):
    """Gives one number from one loss per token; denominators come from `tokens.totals` alone."""

    def __call__(self, loss_N: Tensor, tokens: Tokens, /) -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepEnd:
    """What a callback is handed after the new weights serve."""

    metrics: StepMetrics
    batch: TrainBatch
    advantage_N: Tensor
    groups: tuple[Group, ...]
    updater: Updater
    context: StepContext


class Callback(Protocol):
    """Looks at a finished step; may keep things in `end.context.state`."""

    def __call__(self, end: StepEnd, /) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardSpec:
    """Which passes and columns are made, and how far an update may be cut."""

    before: frozenset[str]
    """Read before the update, so for all episodes at once and without gradient."""
    during: frozenset[str]
    """Read by ratio, bounds, surrogate, regularisers or aggregate."""
    scope: Scope


def forward_spec(before: Iterable[object], during: Iterable[object]) -> ForwardSpec:
    """Gather what parts declare.

    Raises:
        ConfigError: A part reads a column, or has a scope, that does not exist.
    """
    during = list(during)
    scopes = [SCOPES.index(_scope(part)) for part in during]
    reads = [frozenset().union(*map(_reads, parts)) for parts in (before, during)]
    return ForwardSpec(before=reads[0], during=reads[1], scope=SCOPES[max(scopes, default=0)])


def _reads(part: object) -> frozenset[str]:
    names = frozenset(getattr(part, "reads", ()))
    for name in names - READABLE:
        raise ConfigError(f"{type(part).__name__}: {unknown('column', name, READABLE)}")
    return names


def _scope(part: object) -> Scope:
    scope: Scope = getattr(part, "scope", "token")
    if scope not in SCOPES:
        raise ConfigError(f"{type(part).__name__}: {unknown('scope', scope, SCOPES)}")
    return scope
