"""Who can be measured, by name: a policy without a model, a model folder, or a model behind a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from agentrl.asking import Asking
from agentrl.dialect import check_dialect
from agentrl.errors import ConfigError
from agentrl.evaluation import Attempts, Watcher, evaluate_model, evaluate_policy, has_expert, named
from agentrl.policies import policy_named
from agentrl.registry import EnvSpec, Worker
from agentrl.rollout.independent import Independent
from agentrl.task import Task

REMOTE = "openai:"
FOLDER_SETTINGS = frozenset({"temperature", "top_p", "max_tokens", "dialect"})
"""What can be set of a model on this machine."""


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
    asking: Asking = field(default_factory=Asking)
    dialect: str = ""
    """How conversations are written; '' is as when it was trained, else by the tokenizer's control tokens."""

    def __post_init__(self) -> None:
        check_dialect(self.dialect or "auto")

    async def attempt(self, worker: Worker, tasks: Sequence[Task], seed: int, watch: Watcher) -> Attempts:
        """Attempt each task once."""
        from agentrl.checkpoint import read_manner, table_of

        sampling = self.asking.sampling
        manner = read_manner(Path(self.folder)).changed(max_tokens=sampling.max_tokens, dialect=self.dialect)
        async with table_of(self.folder, manner, tools=await worker.tools()) as table:
            strategy = Independent(table=table, new_env=worker.new)
            found = await evaluate_model(strategy, tasks, sampling=sampling, seed=seed, watch=watch)
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
    if is_folder(name):
        given = {key: value for key, value in settings.items() if key in FOLDER_SETTINGS}
        dialect = str(given.pop("dialect", ""))
        return ModelFolder(folder=name, asking=Asking(**given), dialect=dialect)
    if name == "expert":
        with named(spec):
            possible = has_expert(spec)
        if not possible:
            raise ConfigError(f"{spec.name} has no expert(observations): write one, or use another policy")
    else:
        policy_named(name, spec.make)
    return WithoutModel(name=name)


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
