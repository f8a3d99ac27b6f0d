"""How attempts are made in training: rollout strategies by name, with settings of their own."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from agentrl.environment import Environment
from agentrl.errors import ConfigError, unknown
from agentrl.rollout.protocol import RolloutStrategy
from agentrl.rollout.running import Table
from agentrl.trainers.configure import read_value

GROUP = "agentrl.strategies"
GIVEN = ("table", "new_env", "max_episodes", "retries")
"""What every strategy is made with; its other fields are its settings, `strategy.x` on the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyPlan:
    """A strategy that is chosen but not made yet."""

    name: str
    kind: Callable[..., RolloutStrategy]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def make(
        self, *, table: Table, new_env: Callable[[], Environment], max_episodes: int, retries: int
    ) -> RolloutStrategy:
        """Make it."""
        return self.kind(
            table=table, new_env=new_env, max_episodes=max_episodes, retries=retries, **self.settings
        )


def find_strategy(name: str, values: Mapping[str, Any], *, group_size: int) -> StrategyPlan:
    """Find an installed strategy and read its settings.

    Args:
        name: Under the entry points `agentrl.strategies`.
        values: Its settings, as the command line gives them.
        group_size: Leaves of a group; a strategy with `refuse(size, settings)` says there what cannot work.

    Raises:
        ConfigError: No such strategy or setting, or settings that do not go together.
    """
    known = {e.name: e for e in entry_points(group=GROUP)}
    if name not in known:
        raise ConfigError(f"rollout.strategy: {unknown('strategy', name, known)}")
    kind = known[name].load()
    hints = {k: v for k, v in typing.get_type_hints(kind).items() if k not in GIVEN}
    for key in values:
        if not hints:
            raise ConfigError(f"strategy.{key}: without use here: the strategy {name!r} has no settings")
        if key not in hints:
            raise ConfigError(f"strategy.{key}: {unknown('setting', key, hints)}")
    settings = {k: read_value(f"strategy.{k}", v, hints[k]) for k, v in values.items()}
    refuse = getattr(kind, "refuse", None)
    if refuse is not None:
        refuse(group_size, settings)
    return StrategyPlan(name=name, kind=kind, settings=settings)
