"""What must not learn: controls that take away one thing that learning needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from agentrl.adapter import Adapter
from agentrl.environment import Environment, Observation, StepResult
from agentrl.episode import ScoredGroup
from agentrl.message import Action, Part, ToolResult
from agentrl.task import Task, derive_seed
from agentrl.toolkit import ToolSpec
from agentrl.trainers.parts import StepContext


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffledReward:
    """Reward transform: deals the rewards of each group out at random among its episodes."""

    seed: int

    def __call__(self, group: ScoredGroup, context: StepContext) -> ScoredGroup:
        """Shuffle one group."""
        rng = np.random.default_rng(derive_seed("shuffled", self.seed, context.step, group.id))
        rewards = rng.permutation(group.rewards).tolist()
        pairs = zip(group.episodes, rewards, strict=True)
        return replace(group, episodes=tuple(replace(e, reward=r) for e, r in pairs))


class Blanked:
    """An environment whose tools run but say nothing."""

    def __init__(self, env: Adapter) -> None:
        self._env = env
        self.isolation, self.max_turns = env.isolation, env.max_turns

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The tools."""
        return self._env.tools

    @property
    def system(self) -> str:
        """The system text."""
        return self._env.system

    async def start(self, task: Task) -> Observation:
        """Begin."""
        return await self._env.start(task)

    async def act(self, action: Action) -> StepResult:
        """Take an action; what the tools said is blanked."""
        result = await self._env.act(action)
        blank = tuple(blanked(p) for p in result.observation.parts)
        return replace(result, observation=Observation(parts=blank))

    async def fork(self) -> Environment:
        """Copy."""
        twin = await self._env.fork()
        assert isinstance(twin, Adapter)
        return Blanked(twin)

    async def close(self) -> None:
        """Close."""
        await self._env.close()


def blanked(part: Part) -> Part:
    """Blank a tool's words, errors included.

    >>> blanked(ToolResult(call_id="0", name="python", text="12")).text
    ''
    """
    return replace(part, text="", error=False) if isinstance(part, ToolResult) else part
