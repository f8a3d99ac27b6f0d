"""Who can be measured, by name: a policy without a model, a model folder, or a model behind a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from agentrl.dialect import check_dialect
from agentrl.engine.protocol import Sampling
from agentrl.errors import ConfigError
from agentrl.evaluation import Attempts, Watcher, evaluate_model, evaluate_policy, has_expert, named
from agentrl.policies import policy_named
from agentrl.registry import EnvSpec, Worker, check_settings
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
class FolderSettings:
    """How a model on disk plays."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    """Of a turn; None: as when it was trained, else 128."""
    dialect: str = ""
    """How conversations are written; '' is as when it was trained, else by the tokenizer's control tokens."""

    def __post_init__(self) -> None:
        check_dialect(self.dialect or "auto")
        _ = self.sampling

    @property
    def sampling(self) -> Sampling:
        """How its tokens are drawn."""
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A model on disk, served in this process."""

    folder: str
    settings: FolderSettings = field(default_factory=FolderSettings)

    async def attempt(self, worker: Worker, tasks: Sequence[Task], seed: int, watch: Watcher) -> Attempts:
        """Attempt each task once."""
        from agentrl.checkpoint import read_manner, table_of

        chosen = self.settings
        manner = read_manner(Path(self.folder)).changed(max_tokens=chosen.max_tokens, dialect=chosen.dialect)
        async with table_of(self.folder, manner, tools=await worker.tools()) as table:
            strategy = Independent(table=table, new_env=worker.new)
            found = await evaluate_model(strategy, tasks, sampling=chosen.sampling, seed=seed, watch=watch)
            return Attempts(episodes=found)


FOLDER_SETTINGS = frozenset(f.name for f in fields(FolderSettings))


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
        known = {key: value for key, value in settings.items() if key in FOLDER_SETTINGS}
        check_settings("policy", FolderSettings, known)
        return ModelFolder(folder=name, settings=FolderSettings(**known))
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
