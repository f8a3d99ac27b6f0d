"""Who can be measured, by name: a policy without a model, a model folder, or a model behind a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agentrl.engine.protocol import Sampling
from agentrl.errors import ConfigError
from agentrl.evaluation import Attempts, Watcher, evaluate_model, evaluate_policy, has_expert, named
from agentrl.policies import policy_named
from agentrl.registry import EnvSpec, Worker
from agentrl.rollout.independent import Independent
from agentrl.task import Task

REMOTE = "openai:"


class Contestant(Protocol):
    """Attempts tasks."""

    async def attempt(self, worker: Worker, tasks: Sequence[Task], seed: int, watch: Watcher) -> Attempts:
        """Attempt each task once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutModel:
    """Chance, or the environment's expert."""

    name: str

    async def attempt(self, worker: Worker, tasks: Sequence[Task], seed: int, watch: Watcher) -> Attempts:
        """Attempt each task once."""
        with named(worker.spec):
            policy = policy_named(self.name, worker.raw)
            return Attempts(episodes=await evaluate_policy(worker, tasks, policy, seed=seed, watch=watch))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model on disk, served in this process."""

    folder: str

    async def attempt(self, worker: Worker, tasks: Sequence[Task], seed: int, watch: Watcher) -> Attempts:
        """Attempt each task once."""
        from agentrl.checkpoint import table_of

        async with table_of(self.folder) as table:
            strategy = Independent(table=table, new_env=worker.new)
            found = await evaluate_model(strategy, tasks, sampling=Sampling(), seed=seed, watch=watch)
            return Attempts(episodes=found)


def contestant(spec: EnvSpec, name: str, settings: Mapping[str, Any]) -> Contestant:
    """Find who is meant, before anything runs.

    Raises:
        ConfigError: There is nobody of this name, or no such setting.
    """
    if not name:
        raise ConfigError(
            "--policy is empty: give random, valid-random, expert, a model folder or openai:MODEL@URL"
        )
    if name.startswith(REMOTE):
        from agentrl.remote import remote_model

        return remote_model(name.removeprefix(REMOTE), settings)
    if Path(name).exists() or "/" in name:  # a path, or the name of a model on the hub
        return ModelFolder(folder=name)
    if name == "expert":
        with named(spec):
            possible = has_expert(spec)
        if not possible:
            raise ConfigError(f"{spec.name} has no expert(observations): write one, or use another policy")
    else:
        policy_named(name, spec.make)
    return WithoutModel(name=name)


def refuse_unused(names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Refuse settings that nobody reads.

    Raises:
        ConfigError: None of the policies is a model behind a server.
    """
    if settings and not any(name.startswith(REMOTE) for name in names):
        key = next(iter(settings))
        raise ConfigError(
            f"--set policy.{key} is for a model behind a server, --policy openai:MODEL@URL: leave it out"
        )
