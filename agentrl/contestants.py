"""Who can be measured, by name: a policy without a model, a model folder, or a model behind a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agentrl.asking import Asking
from agentrl.dialect import check_dialect
from agentrl.engine.protocol import Sampling
from agentrl.errors import ConfigError, unknown
from agentrl.evaluation import Attempts, Watcher, evaluate_model, evaluate_policy, has_expert, named
from agentrl.policies import policy_named
from agentrl.registry import EnvSpec, Worker
from agentrl.rollout.independent import Independent
from agentrl.rollout.protocol import Limits
from agentrl.task import Task

REMOTE = "openai:"
FOLDER_SETTINGS = frozenset({"temperature", "top_p", "max_tokens", "dialect"})
"""What can be set of a model on this machine."""
LIMITS = {"max_turns": int, "max_context": int, "turn_seconds": float, "episode_seconds": float}
"""What of `Limits` can be set; a turn's tokens are a model's `max_tokens`."""


class Contestant(Protocol):
    """Attempts tasks."""

    async def attempt(self, worker: Worker, tasks: Sequence[Task], seed: int, watch: Watcher) -> Attempts:
        """Attempt each task once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WithoutModel:
    """Chance, or the environment's expert."""

    name: str
    limits: Limits = field(default_factory=Limits)

    async def attempt(self, worker: Worker, tasks: Sequence[Task], seed: int, watch: Watcher) -> Attempts:
        """Attempt each task once."""
        with named(worker.spec):
            policy = policy_named(self.name, worker.raw)
            found = await evaluate_policy(worker, tasks, policy, seed=seed, watch=watch, limits=self.limits)
            return Attempts(episodes=found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model on disk, served in this process."""

    folder: str
    sampling: Sampling = field(default_factory=Sampling)
    dialect: str = ""
    """How conversations are written; '' is as when it was trained, else by the tokenizer's control tokens."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    """In the place of those that it was trained with."""

    def __post_init__(self) -> None:
        check_dialect(self.dialect or "auto")

    async def attempt(self, worker: Worker, tasks: Sequence[Task], seed: int, watch: Watcher) -> Attempts:
        """Attempt each task once."""
        from agentrl.checkpoint import read_manner, table_of

        manner = read_manner(Path(self.folder)).changed(
            max_tokens=self.sampling.max_tokens, dialect=self.dialect, limits=self.limits
        )
        async with table_of(self.folder, manner, tools=await worker.tools()) as table:
            strategy = Independent(table=table, new_env=worker.new)
            found = await evaluate_model(strategy, tasks, sampling=self.sampling, seed=seed, watch=watch)
            return Attempts(episodes=found)


def contestant(
    spec: EnvSpec, name: str, settings: Mapping[str, Any], limits: Mapping[str, Any] | None = None
) -> Contestant:
    """Find who is meant, before anything runs.

    Args:
        spec: The environment.
        name: Of the policy.
        settings: Of models.
        limits: Fields of `Limits` in the place of the usual ones.

    Raises:
        ConfigError: There is nobody of this name, or no such setting or limit.
    """
    limits = limits or {}
    chosen = check_limits(limits)
    if not name:
        raise ConfigError(
            "--policy is empty: give random, valid-random, expert, a model folder or openai:MODEL@URL"
        )
    if name.startswith(REMOTE):
        from agentrl.remote import remote_model

        return remote_model(name.removeprefix(REMOTE), settings, limits)
    if is_folder(name):
        given = {key: value for key, value in settings.items() if key in FOLDER_SETTINGS}
        dialect = str(given.pop("dialect", ""))
        return ModelFolder(folder=name, sampling=Asking(**given).sampling, dialect=dialect, limits=limits)
    if name == "expert":
        with named(spec):
            possible = has_expert(spec)
        if not possible:
            raise ConfigError(f"{spec.name} has no expert(observations): write one, or use another policy")
    else:
        policy_named(name, spec.make)
    return WithoutModel(name=name, limits=chosen)


def check_limits(given: Mapping[str, Any]) -> Limits:
    """Read limits by name.

    Raises:
        ConfigError: There is no such limit, or it is no number above 0.
    """
    for key, value in given.items():
        if key not in LIMITS:
            raise ConfigError(f"rollout: {unknown('setting', key, LIMITS)}")
        if isinstance(value, bool) or not isinstance(value, (int, LIMITS[key])):
            raise ConfigError(f"rollout.{key}={value!r}: need a number above 0")
    return Limits(**given)


def is_folder(name: str) -> bool:
    """Whether a policy is a model on this machine: a path, or the name of a model on the hub."""
    return not name.startswith(REMOTE) and (Path(name).exists() or "/" in name)


def refuse_unused(names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Refuse settings that nobody reads; what a model behind a server does not know, it refuses by itself.

    Raises:
        ConfigError: None of the policies takes them.
    """
    if any(name.startswith(REMOTE) for name in names):
        return
    taken = FOLDER_SETTINGS if any(map(is_folder, names)) else frozenset()
    for key in settings:
        if key not in taken:
            whose = "a model behind a server, --policy openai:MODEL@URL"
            whose += ", or for a model folder" if key in FOLDER_SETTINGS else ""
            raise ConfigError(f"--set policy.{key} is for {whose}: leave it out")
