"""One episode while it runs: an environment, what the model has seen, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import numpy as np

from agentrl.dialect.protocol import Dialect, Encoded, Exchange, RewritesEarlierTurns, Rewriting
from agentrl.engine.complete import complete
from agentrl.engine.protocol import Completion, Engine, Sampling
from agentrl.environment import Environment, Observation, StepResult
from agentrl.episode import Context, Episode, Failure, Finish, Ids, Kind, Origin, Segment, Turn, as_ids
from agentrl.errors import ConfigError, EngineError, InfrastructureError
from agentrl.message import Action
from agentrl.rollout.closing import close_quietly
from agentrl.rollout.protocol import Limits
from agentrl.rollout.timed import STARTING, acting, answered, cpu_seconds_of, place_of
from agentrl.rollout.watchdog import Watchdog
from agentrl.task import Task, derive_seed

Result = TypeVar("Result")
OWN: frozenset[Kind] = frozenset({"action", "forced"})
"""What stands in the agent's own turn."""


class Memory(Protocol):
    """Decides when a conversation goes on in a new context, as after compaction or in a sub-agent."""

    def renew(self, context: Context, turns: Sequence[Turn], observation: Observation) -> Encoded | None:
        """Give the prompt of a new context, or None to go on in the old one."""
        ...


class OneContext:
    """The ordinary memory: everything stays in one context."""

    def renew(self, context: Context, turns: Sequence[Turn], observation: Observation) -> Encoded | None:
        """Never renew."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What all episodes of a run are played with."""

    engine: Engine
    dialect: Dialect
    limits: Limits = field(default_factory=Limits)
    memory: Memory = field(default_factory=OneContext)
    watchdog: Watchdog = field(default_factory=Watchdog)

    @property
    def max_context(self) -> int:
        """Tokens that one context may hold."""
        bounds = (self.limits.max_context, self.engine.capabilities.max_context)
        return min((b for b in bounds if b is not None), default=1 << 30)


@dataclass(slots=True, kw_only=True)
class Running:
    """A running episode; `fork` gives an independent one that shares the tokens so far."""

    table: Table
    env: Environment
    task: Task
    id: str
    group_id: str
    seed: int
    sampling: Sampling
    origin: Origin = "policy"
    parent_id: str | None = None
    fork_index: int = 0
    num_shared_turns: int = 0
    contexts: list[Context] = field(default_factory=list)
    rewrites: int = 0
    """Contexts that were opened because the template changes earlier turns."""
    turns: list[Turn] = field(default_factory=list)
    first: Observation = field(default_factory=Observation)
    reward: float = 0.0
    reward_parts: dict[str, float] = field(default_factory=dict)
    correct: bool | None = None
    finish: Finish | None = None
    doing: str = "waiting"
    """What it waits for, in words; a watchdog's message shows it."""

    @property
    def context(self) -> Context:
        """The context that the model sees now."""
        return self.contexts[-1]

    @property
    def place(self) -> str:
        """Where it stands, in words."""
        return place_of(self.id, len(self.turns), self.doing)

    def cpu_seconds(self) -> float:
        """Processor time of the environment's latest call; 0 where it does not say."""
        return cpu_seconds_of(self.env)

    @property
    def turn_ids(self) -> list[int]:
        """The agent's tokens of this turn so far; a branch that was cut inside an action begins with some."""
        ids: list[int] = own_ids(self.context, len(self.turns)).tolist()
        return ids

    @property
    def exchanges(self) -> list[Exchange]:
        """All turns so far: the agent's own tokens and what followed."""
        return [
            Exchange(said=own_ids(self.contexts[t.context], t.index), heard=t.observation.parts)
            for t in self.turns
        ]

    async def start(self) -> None:
        """Begin the task and write the prompt."""
        self.doing = STARTING
        limits = self.table.limits
        self.first = await within(self.env.start(self.task), limits.turn_seconds, self)
        written = self.table.dialect.prompt(self.env.system, self.env.tools, self.first.parts)
        if len(written.ids) >= self.table.max_context:
            raise ConfigError(
                f"task {self.task.id}: its prompt of {len(written.ids)} tokens does not fit into the context "
                f"of {self.table.max_context}: shorten the task or raise max_context"
            )
        self.contexts.append(Context(segments=(segment("prompt", written, 0),)))

    async def step(self) -> None:
        """Let the model take one turn and the environment answer it; sets `finish` at the end."""
        turn = len(self.turns)
        room = self.table.max_context - len(self.context)
        if room <= 0:
            self.finish, self.correct = "max_context", False
            return
        began = time.perf_counter()
        self.doing = "the engine"
        completion = await self.sample(room)
        self.contexts[-1] = self.context.append(
            Segment(kind="action", ids=completion.ids, turn=turn, columns=completion.columns)
        )
        generated = time.perf_counter()
        action = self.read(completion)
        self.doing = acting(action)
        result = await within(self.env.act(action), self.table.limits.turn_seconds, self)
        seconds = generated - began, time.perf_counter() - generated
        self._record(turn, action, result, seconds, cut_off=completion.finish == "length")
        if not self._ended(result):
            closed = int(completion.ids[-1]) in self.table.dialect.stop_ids
            self._show(turn, result.observation, closed=closed)

    @property
    def max_tokens(self) -> int:
        """Tokens that one turn may have."""
        allowed, asked = self.table.limits.max_tokens_per_turn, self.sampling.max_tokens
        return allowed if asked is None else min(asked, allowed)

    async def sample(self, room: int) -> Completion:
        """Ask the engine for one turn of at most `room` tokens."""
        dialect = self.table.dialect
        wanted = self.max_tokens - len(self.turn_ids)
        sampling = replace(
            self.sampling,
            max_tokens=min(max(wanted, 1), room),
            stop_ids=dialect.stop_ids,
            stop_strings=dialect.stop_strings,
        )
        seed = derive_seed(self.seed, len(self.contexts)) if len(self.contexts) > 1 else self.seed
        try:
            return await complete(self.table.engine, self.context.ids.tolist(), sampling, seed=seed)
        except (InfrastructureError, ConfigError):
            raise
        except Exception as error:
            raise EngineError(f"the engine raised {type(error).__name__}: {error}") from error

    def read(self, completion: Completion) -> Action:
        """Parse a turn once, when its last tokens stand in the context; one that was cut off is told so."""
        ids = self.turn_ids
        action = self.table.dialect.parse(ids, self.env.tools)
        if completion.finish == "length" and self.env.tools:
            return action.cut_off(len(ids))
        return action

    def _record(
        self, turn: int, action: Action, result: StepResult, seconds: tuple[float, float], *, cut_off: bool
    ) -> None:
        self.turns.append(
            Turn(
                index=turn,
                action=action,
                observation=result.observation,
                reward=result.reward,
                reward_parts=result.reward_parts,
                calls=result.calls,
                generate_seconds=seconds[0],
                act_seconds=seconds[1],
                context=len(self.contexts) - 1,
                cut_off=cut_off,
            )
        )
        self.reward += result.reward
        for name, value in result.reward_parts.items():
            self.reward_parts[name] = self.reward_parts.get(name, 0.0) + value
        self.correct = result.correct

    def _ended(self, result: StepResult) -> bool:
        if result.terminated:
            self.finish = "terminated"
        elif result.truncated:
            self.finish = "truncated"
        elif len(self.turns) >= self.table.limits.turns_of(self.env):
            self.finish = "max_turns"
        if self.finish in ("truncated", "max_turns"):
            self.correct = bool(self.correct)
        return self.finish is not None

    def _show(self, turn: int, observation: Observation, *, closed: bool) -> None:
        renewed = self.table.memory.renew(self.context, self.turns, observation)
        if renewed is None:
            try:
                written = self.table.dialect.observation(observation.parts, closed=closed)
                self.contexts[-1] = self.context.append(segment("observation", written, turn))
                return
            except RewritesEarlierTurns as error:
                renewed = self._rewritten(error)
        self.contexts.append(Context(segments=(segment("prompt", renewed, turn + 1),)))

    def _rewritten(self, error: RewritesEarlierTurns) -> Encoded:
        """Write the conversation again; where a memory has cut it, nobody here knows all of it."""
        dialect = self.table.dialect
        if not isinstance(dialect, Rewriting) or len(self.contexts) != 1 + self.rewrites:
            raise error
        self.rewrites += 1
        return dialect.rewrite(self.env.system, self.env.tools, self.first.parts, self.exchanges)

    async def fork(self, id: str, *, seed: int, fork_index: int) -> Running:
        """Copy it between two turns: the environment is forked, the tokens are shared by reference.

        Raises:
            DeadlineError: The environment's copy took longer than a turn may.
        """
        self.doing = "the environment's fork"
        forking = asyncio.ensure_future(self.env.fork())
        try:
            env = await within(forking, self.table.limits.turn_seconds, self)
        except BaseException:
            if forking.done() and not forking.cancelled() and forking.exception() is None:
                await close_quietly(forking.result())  # it came when nobody waited any more
            raise
        return replace(
            self,
            env=env,
            id=id,
            seed=seed,
            parent_id=self.id,
            fork_index=fork_index,
            num_shared_turns=len(self.turns),
            contexts=list(self.contexts),
            turns=list(self.turns),
            reward_parts=dict(self.reward_parts),
        )

    def episode(self, failure: Failure | None = None) -> Episode:
        """Freeze it."""
        finish = "failed" if failure is not None else self.finish
        assert finish is not None, "an episode that still runs"
        return Episode(
            id=self.id,
            task_id=self.task.id,
            group_id=self.group_id,
            finish=finish,
            contexts=tuple(self.contexts),
            turns=tuple(self.turns),
            first=self.first,
            reward=self.reward,
            reward_parts=self.reward_parts,
            correct=None if failure is not None else self.correct,
            failure=failure,
            origin=self.origin,
            parent_id=self.parent_id,
            fork_index=self.fork_index,
            num_shared_turns=self.num_shared_turns,
            isolation=str(getattr(self.env, "isolation", "")),
        )


def own_ids(context: Context, turn: int) -> Ids:
    """Give the agent's own tokens of a turn."""
    own = [s.ids for s in context.segments if s.kind in OWN and s.turn == turn]
    return np.concatenate(own) if own else as_ids([])


def segment(kind: str, written: Encoded, turn: int) -> Segment:
    """Make a segment of what a dialect wrote."""
    assert kind in ("prompt", "observation")
    return Segment(
        kind="prompt" if kind == "prompt" else "observation", ids=written.ids, turn=turn, media=written.media
    )


async def within(awaitable: Awaitable[Result], seconds: float, episode: Running) -> Result:
    """Wait for an environment, but not for ever.

    Raises:
        DeadlineError: Names the episode, the turn and what it waited for.
    """
    watchdog = episode.table.watchdog
    return await answered(awaitable, seconds, watchdog, lambda: episode.place, used=episode.cpu_seconds)
