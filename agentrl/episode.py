"""Episodes: what was fed, what was sampled, and what came of it, token by token.

An `Episode` owns its turns, its outcome and one or more linear `Context`s; a context is a list of `Segment`s.
Tokens are stored once, by the part that added them; masks are derived.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agentrl.environment import CallRecord, Observation
from agentrl.errors import FailureKind, InfrastructureError, root_cause
from agentrl.message import Action

Kind = Literal["prompt", "action", "observation", "forced"]
Origin = Literal["policy", "expert", "hinted", "replayed"]
ColumnName = Literal["logp", "untempered", "entropy", "version", "teacher"]
Finish = Literal["terminated", "truncated", "max_turns", "max_context", "failed"]
TRUNCATED: frozenset[Finish] = frozenset({"truncated", "max_turns", "max_context"})
Ids = NDArray[np.int32]
Floats = NDArray[np.float32]


def as_ids(ids: object) -> Ids:
    """Copy token ids into the one array type that segments hold."""
    return np.array(ids, dtype=np.int32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """What is known of each token of a sampled segment; every array has the segment's length."""

    logp: Floats
    """Behaviour log-probability in nats: of the distribution that the token was drawn from."""
    untempered: Floats
    """Log-probability at temperature 1 without top-p or top-k."""
    entropy: Floats
    """Entropy in nats of the untempered distribution that the token was drawn from."""
    version: Ids
    """Weight version that produced the token."""
    teacher: Floats | None = None
    """Log-probabilities under another model, where a recipe asked for them."""

    def __len__(self) -> int:
        return len(self.logp)

    def __getitem__(self, part: slice) -> Columns:
        teacher = None if self.teacher is None else self.teacher[part]
        arrays = self.logp[part], self.untempered[part], self.entropy[part], self.version[part]
        return Columns(
            logp=arrays[0], untempered=arrays[1], entropy=arrays[2], version=arrays[3], teacher=teacher
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """Consecutive tokens of one kind; shared by reference along a tree.

    `columns` is given exactly where this policy sampled the tokens under this prompt: in `action` segments of
    rollouts, never in demonstrations, re-prompted or forced tokens.

    >>> Segment(kind="prompt", ids=as_ids([5, 6])).sampled
    False
    """

    kind: Kind
    ids: Ids
    turn: int = 0
    columns: Columns | None = None
    media: tuple[str, ...] = ()
    """References of the pictures whose placeholders stand in `ids`, in order."""

    def __post_init__(self) -> None:
        if self.columns is not None:
            if self.kind != "action":
                raise ValueError(f"a segment of kind {self.kind!r} with log-probs: only actions are sampled")
            if len(self.columns) != len(self.ids):
                raise ValueError(f"{len(self.ids)} ids with {len(self.columns)} column values: need one each")
            if not (np.isfinite(self.columns.logp) & np.isfinite(self.columns.untempered)).all():
                raise ValueError("a log-prob of a sampled token is not finite")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> Segment:
        """Slice by token; pictures stay with the segment only when it is whole."""
        columns = None if self.columns is None else self.columns[part]
        media = self.media if len(self.ids[part]) == len(self.ids) else ()
        return replace(self, ids=self.ids[part], columns=columns, media=media)

    @property
    def sampled(self) -> bool:
        """Whether this policy sampled it under this prompt."""
        return self.columns is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Context:
    """One linear token stream that a model saw; the unit from which training rows are made."""

    segments: tuple[Segment, ...] = ()
    agent_id: str = "main"

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    @property
    def ids(self) -> Ids:
        """All tokens in order."""
        return np.concatenate([s.ids for s in self.segments]) if self.segments else as_ids([])

    @property
    def trained(self) -> NDArray[np.bool_]:
        """True at the agent's own tokens: the derived mask of the loss."""
        return self._spread(lambda s: np.full(len(s), s.kind == "action"), np.dtype(bool))

    @property
    def sampled(self) -> NDArray[np.bool_]:
        """True where a behaviour log-prob exists."""
        return self._spread(lambda s: np.full(len(s), s.sampled), np.dtype(bool))

    @property
    def turns(self) -> Ids:
        """Turn number of each token."""
        return self._spread(lambda s: np.full(len(s), s.turn, dtype=np.int32), np.dtype(np.int32))

    def column(self, name: ColumnName) -> Floats:
        """One column over the whole context, NaN where nothing was sampled."""

        def one(segment: Segment) -> Floats:
            values = None if segment.columns is None else getattr(segment.columns, name)
            return np.full(len(segment), np.nan, dtype=np.float32) if values is None else values

        return self._spread(one, np.dtype(np.float32))

    def _spread(self, make: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
        parts = [make(s) for s in self.segments]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)

    def append(self, *segments: Segment) -> Context:
        """Give the context with segments added; the old one stays as it is and shares its tokens."""
        return replace(self, segments=(*self.segments, *segments))

    def with_prompt(self, ids: object) -> Context:
        """Give the same conversation behind another prompt; nothing in it counts as sampled any more."""
        rest = (replace(s, columns=None) for s in self.segments if s.kind != "prompt")
        return replace(self, segments=(Segment(kind="prompt", ids=as_ids(ids)), *rest))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn was about; its tokens stand in the context under the same turn number."""

    index: int
    action: Action
    observation: Observation
    reward: float = 0.0
    reward_parts: Mapping[str, float] = field(default_factory=dict)
    calls: tuple[CallRecord, ...] = ()
    generate_seconds: float = 0.0
    act_seconds: float = 0.0
    context: int = 0
    """Index of the context that holds its tokens."""
    cut_off: bool = False
    """Whether a limit of tokens ended what the agent said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an episode is no evidence about the policy."""

    kind: FailureKind
    message: str
    caused_by: str = ""
    """Type of the exception underneath."""
    turn: int | None = None

    @classmethod
    def of(cls, error: BaseException, *, turn: int) -> Failure:
        """Class an exception by the boundary that it crossed; an unknown one is blamed on the environment."""
        return cls(
            kind=error.kind if isinstance(error, InfrastructureError) else "environment",
            message=str(error) or type(error).__name__,
            caused_by=type(root_cause(error)).__name__,
            turn=turn,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Episode:
    """One attempt at one task, as it was played: raw, without advantage.

    The reward is the sum of what the environment gave; `correct` is its own word on the task.
    """

    id: str
    task_id: str
    group_id: str
    finish: Finish
    contexts: tuple[Context, ...]
    turns: tuple[Turn, ...] = ()
    first: Observation = field(default_factory=Observation)
    """The task as the model read it."""
    reward: float = 0.0
    reward_parts: Mapping[str, float] = field(default_factory=dict)
    correct: bool | None = None
    failure: Failure | None = None
    retried: tuple[Failure, ...] = ()
    """How earlier attempts under the same seed failed; nothing else is left of them."""
    origin: Origin = "policy"
    parent_id: str | None = None
    fork_index: int = 0
    num_shared_turns: int = 0
    """Turns at the beginning that its parent has played."""
    instruction_id: str = ""
    isolation: str = ""
    """How the environment's tools were isolated; '' where it runs no code."""

    def __post_init__(self) -> None:
        if (self.finish == "failed") != (self.failure is not None):
            raise ValueError(
                f"finish={self.finish!r} with failure={self.failure}: a failed episode has a failure"
            )

    @property
    def truncated(self) -> bool:
        """Whether a limit ended it or cut off its last turn; an outcome of the policy, and trained on."""
        return self.finish in TRUNCATED or (bool(self.turns) and self.turns[-1].cut_off)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Every failure on the way to it, its own last."""
        return self.retried if self.failure is None else (*self.retried, self.failure)

    @property
    def num_calls(self) -> int:
        """How many tool calls were made, valid or not."""
        return sum(len(t.calls) for t in self.turns)

    @property
    def num_sampled(self) -> int:
        """How many tokens the policy sampled."""
        return sum(len(s) for c in self.contexts for s in c.segments if s.sampled)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Episodes that share a `group_id`; its size varies (failures, trees, refills)."""

    id: str
    episodes: tuple[Episode, ...]

    @property
    def whole(self) -> tuple[Episode, ...]:
        """The episodes that are evidence: those without a failure."""
        return tuple(e for e in self.episodes if e.failure is None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredEpisode:
    """An episode with the reward that training uses, after reward transforms."""

    episode: Episode
    reward: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredGroup:
    """A group ready for advantages; `dropped` counts why members were left out."""

    id: str
    episodes: tuple[ScoredEpisode, ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def rewards(self) -> tuple[float, ...]:
        """The rewards in order."""
        return tuple(e.reward for e in self.episodes)

    def with_episodes(self, episodes: tuple[ScoredEpisode, ...], *, dropped: str) -> ScoredGroup:
        """Keep some episodes and count the rest under a reason."""
        missing = len(self.episodes) - len(episodes)
        counts = dict(self.dropped)
        if missing:
            counts[dropped] = counts.get(dropped, 0) + missing
        return replace(self, episodes=episodes, dropped=counts)
