"""Models behind OpenAI-compatible servers as contestants: by chat, or by token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from agentrl.asking import Asking
from agentrl.chat import ChatPolicy
from agentrl.dialect import check_dialect, dialect_for
from agentrl.engine.client import open_client
from agentrl.engine.endpoint import Endpoint, read_place
from agentrl.engine.protocol import Sampling
from agentrl.errors import ConfigError, unknown
from agentrl.evaluation import Attempts, Watcher, evaluate_model, evaluate_policy
from agentrl.registry import Worker, check_settings
from agentrl.rollout.independent import Independent
from agentrl.rollout.protocol import Limits
from agentrl.rollout.running import Table
from agentrl.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How a model behind a server is asked, beside `Endpoint` and `Asking`."""

    at_once: int = 64
    """Episodes that run at once."""
    tokenizer: str = ""
    """Folder of the model's tokenizer: then prompts are written in token ids as in training and sent to
    `/v1/completions`; the server must return ids, as vLLM does. '' for chat, which any server has.
    """
    dialect: str = ""
    """With `tokenizer`: how conversations are written; '' is what the folder says, else by its tokens."""

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise ConfigError(f"policy.at_once={self.at_once}: need 1 or more")
        check_dialect(self.dialect or "auto")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModel:
    """A model that is asked in messages."""

    endpoint: Endpoint
    asking: Asking = field(default_factory=Asking)
    serving: Serving = field(default_factory=Serving)
    limits: Limits = field(default_factory=Limits)

    async def attempt(self, worker: Worker, tasks: Sequence[Task], seed: int, watch: Watcher) -> Attempts:
        """Attempt each task once."""
        async with open_client(self.endpoint) as client:
            await client.greet()
            policy, at_once = ChatPolicy(client, self.asking), self.serving.at_once
            found = await evaluate_policy(
                worker, tasks, policy, seed=seed, at_once=at_once, watch=watch, limits=self.limits
            )
            return Attempts(episodes=found, facts={"endpoint": client.facts})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenModel:
    """A model that is asked in token ids."""

    endpoint: Endpoint
    sampling: Sampling
    serving: Serving
    limits: Mapping[str, Any] = field(default_factory=dict)
    """In the place of those that the folder names."""

    async def attempt(self, worker: Worker, tasks: Sequence[Task], seed: int, watch: Watcher) -> Attempts:
        """Attempt each task once."""
        from agentrl.checkpoint import read_manner
        from agentrl.engine.loading import load_tokenizer
        from agentrl.engine.openai import open_engine

        folder = Path(self.serving.tokenizer)
        manner = read_manner(folder).changed(
            max_tokens=self.sampling.max_tokens, dialect=self.serving.dialect, limits=self.limits
        )
        dialect = dialect_for(load_tokenizer(folder), manner.dialect, tools=await worker.tools())
        async with open_engine(self.endpoint) as engine:
            table = Table(engine=engine, dialect=dialect, limits=manner.limits)
            strategy = Independent(table=table, new_env=worker.new, max_episodes=self.serving.at_once)
            found = await evaluate_model(strategy, tasks, sampling=self.sampling, seed=seed, watch=watch)
            return Attempts(episodes=found, facts={"endpoint": engine.client.facts})


def remote_model(
    place: str, settings: Mapping[str, Any], limits: Mapping[str, Any]
) -> ChatModel | TokenModel:
    """Make the contestant of `openai:MODEL@URL`.

    Raises:
        ConfigError: A place that is none, or a setting that there is not or that is of no use here.
    """
    model, url = read_place(place)
    parts = split(settings)
    endpoint = Endpoint(model=model, url=url, **parts[Endpoint])
    serving, asking = Serving(**parts[Serving]), Asking(**parts[Asking])
    if not serving.tokenizer:
        if serving.dialect:
            raise ConfigError(
                "policy.dialect is of use with policy.tokenizer only: a chat server has its own"
            )
        return ChatModel(endpoint=endpoint, asking=asking, serving=serving, limits=Limits(**limits))
    if asking.extra:
        raise ConfigError("policy.extra is of no use with policy.tokenizer: leave one of them out")
    return TokenModel(endpoint=endpoint, sampling=asking.sampling, serving=serving, limits=limits)


def split(settings: Mapping[str, Any]) -> dict[Any, dict[str, Any]]:
    """Hand each setting to the part that it belongs to."""
    kinds: tuple[Any, ...] = (Serving, Asking, Endpoint)
    owner = {f.name: kind for kind in kinds for f in fields(kind) if f.name not in ("model", "url")}
    for name in settings:
        if name not in owner:
            raise ConfigError(f"policy: {unknown('setting', name, owner)}")
    parts = {kind: {k: v for k, v in settings.items() if owner[k] is kind} for kind in kinds}
    for kind in kinds:
        check_settings("policy", kind, parts[kind])
    return parts
