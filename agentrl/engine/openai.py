"""An engine behind an OpenAI-compatible server, token ids in and token ids out (`/v1/completions`).

The server must take a prompt of ids and return the sampled ids with their log-probs, as vLLM does when it is
asked for `return_token_ids`. A server that returns text only cannot be an engine: text is never tokenised
again. It is evaluated through chat instead (`agentrl.chat`, `agentrl bench ENV --policy openai:MODEL@URL`).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from agentrl.engine.client import Client, ContextFull, HttpStatus, Json, Unreadable, open_client, read_events
from agentrl.engine.endpoint import Endpoint
from agentrl.engine.protocol import Capabilities, Chunk, Sampling
from agentrl.episode import Columns, Floats, Ids, as_ids
from agentrl.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from torch import Tensor

PATH = "/completions"
NOT_KNOWN = frozenset({400, 404, 405, 422, 501})
"""What a server says to a path or to fields that it does not have."""
AS_SAMPLED: Json = {
    "stream": True,
    "logprobs": 1,
    "return_token_ids": True,
    "include_stop_str_in_output": True,
    "skip_special_tokens": False,
    "ignore_eos": True,
    # A server may take what a request leaves open from the model's generation_config.json.
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
}


class OpenAIEngine:
    """Samples on a server; weights are the server's own, so it evaluates, and trains nothing by itself.

    `capabilities` says what the server was seen to do: `returns_ids` and `logprobs` where one sampled token
    came back with its id and log-prob. Log-probs that such servers return are those of the untempered
    distribution; they are behaviour log-probs at temperature 1 without top-p and top-k, and at temperature 0
    these are 0. Other settings are refused. Entropies are not returned, so that column is NaN.
    """

    def __init__(self, client: Client, capabilities: Capabilities) -> None:
        self.client = client
        self._capabilities = capabilities
        self._running = asyncio.Event()
        self._running.set()
        self._open: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        """What the server was seen to do."""
        return self._capabilities

    @property
    def version(self) -> int:
        """0: nobody here changes the server's weights."""
        return 0

    async def generate(
        self, ids: Sequence[int] | Ids, sampling: Sampling, *, seed: int
    ) -> AsyncGenerator[Chunk, None]:
        """Sample one continuation and give it as one chunk, so that a cut stream is asked for again whole.

        Raises:
            ConfigError: The server returns no ids, the prompt does not fit, or log-probs would be others.
            EngineError: The server failed in every attempt.
        """
        self._check(sampling)
        await self._running.wait()
        if self._closed:
            raise EngineError("the engine was closed")
        prompt = [int(i) for i in ids]
        sampling = replace(sampling, max_tokens=self._max_tokens(prompt, sampling))
        sampling_task = asyncio.ensure_future(self._sample(prompt, sampling, seed))
        self._open.add(sampling_task)
        try:
            yield await sampling_task
        except asyncio.CancelledError:
            if self._closed and sampling_task.cancelled():
                raise EngineError("the engine was closed") from None
            raise
        finally:
            self._open.discard(sampling_task)
            sampling_task.cancel()

    def _check(self, sampling: Sampling) -> None:
        place = self.client.endpoint.place
        if not self._capabilities.returns_ids:
            raise ConfigError(
                f"{place} returns no token ids, so it can only be evaluated, and through chat: name it as "
                f"the policy openai:{place} without a tokenizer, or serve the model with vLLM"
            )
        changed = sampling.temperature not in (0.0, 1.0) or sampling.top_p < 1 or sampling.top_k > 0
        if changed and sampling.temperature > 0:
            raise ConfigError(
                f"temperature={sampling.temperature}, top_p={sampling.top_p}, top_k={sampling.top_k}: the "
                f"log-probs of {place} are those at temperature 1 without top-p and top-k: sample so, or "
                "with temperature=0"
            )

    def _max_tokens(self, prompt: list[int], sampling: Sampling) -> int:
        """Give the most tokens to ask for: servers have defaults of their own, as low as 16."""
        if sampling.max_tokens is not None:
            return sampling.max_tokens
        if self._capabilities.max_context is None:
            raise ConfigError(
                f"{self.client.endpoint.place} does not say how long its context is: give max_tokens"
            )
        return max(1, self._capabilities.max_context - len(prompt))

    async def _sample(self, prompt: list[int], sampling: Sampling, seed: int) -> Chunk:
        body = request_body(self.client.endpoint.model, prompt, sampling, seed)
        parse = functools.partial(as_chunk, sampling=sampling)
        try:
            return await self.client.post(PATH, body, read_events, parse, seed=seed)
        except ContextFull as error:
            raise ConfigError(f"a prompt of {len(prompt)} tokens does not fit: {error}") from error

    async def score(self, ids: Sequence[int] | Ids) -> Floats:
        """Refuse: the interface has no way to score given ids.

        Raises:
            ConfigError: Always; `capabilities.score` says so beforehand.
        """
        raise ConfigError(f"{self.client.endpoint.place} cannot score given tokens: use a local engine")

    async def update(self, named_tensors: Mapping[str, Tensor], version: int) -> None:
        """Refuse: the interface has no way to hand over weights.

        Raises:
            ConfigError: Always; `capabilities.update` says so beforehand.
        """
        raise ConfigError(f"{self.client.endpoint.place} takes no weights: train with a local engine")

    async def pause(self) -> None:
        """Send nothing until `resume`."""
        self._running.clear()

    async def resume(self) -> None:
        """Go on."""
        self._running.set()

    async def close(self) -> None:
        """End; requests under way are cancelled, which closes their connections."""
        self._closed = True
        self._running.set()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


@asynccontextmanager
async def open_engine(endpoint: Endpoint) -> AsyncIterator[OpenAIEngine]:
    """Greet a server, see with one token what it returns, and give the engine.

    Raises:
        ConfigError: Nobody answers there, or not to this key or model.
    """
    async with open_client(endpoint) as client:
        engine = OpenAIEngine(client, await probe(client))
        try:
            yield engine
        finally:
            await engine.close()


async def probe(client: Client) -> Capabilities:
    """See what a server returns.

    Raises:
        ConfigError: Nobody answers there, or not to this key or model.
        EngineError: It fails in every attempt.
    """
    longest = (await client.greet()).get("max_model_len")
    returns_ids = await samples_ids(client)
    return Capabilities(
        returns_ids=returns_ids,
        logprobs=returns_ids,
        score=False,
        update=False,
        max_context=longest if isinstance(longest, int) and longest > 0 else None,
    )


async def samples_ids(client: Client) -> bool:
    """Whether a token comes back with its id and log-prob; False for a server that does not know how."""
    one = Sampling(max_tokens=1)
    body = request_body(client.endpoint.model, [1], one, 0)
    try:
        events = await client.post(PATH, body, read_events, tuple[Json, ...])
    except (ConfigError, EngineError) as error:
        cause = error.__cause__
        if isinstance(cause, Unreadable) or (isinstance(cause, HttpStatus) and cause.status in NOT_KNOWN):
            return False
        raise
    try:
        return len(as_chunk(events, sampling=one).ids) == 1
    except Unreadable:
        return False


def request_body(model: str, prompt: list[int], sampling: Sampling, seed: int) -> Json:
    """Write a request that leaves nothing to the server's defaults."""
    return AS_SAMPLED | {
        "model": model,
        "prompt": prompt,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or -1,
        "seed": seed % 2**31,
        "stop": list(sampling.stop_strings),
        "stop_token_ids": sorted(sampling.stop_ids),
    }


def as_chunk(events: Sequence[Json], *, sampling: Sampling) -> Chunk:
    """Put the events of one completion together.

    Raises:
        Unreadable: Ids, log-probs or the finish are missing, or do not fit each other.
    """
    ids: list[int] = []
    logps: list[float] = []
    finish = None
    try:
        for choice in (event["choices"][0] for event in events if event.get("choices")):
            ids += choice.get("token_ids") or []
            logps += (choice.get("logprobs") or {}).get("token_logprobs") or []
            finish = choice.get("finish_reason") or finish
        new, untempered = as_ids(ids), np.array(logps, dtype=np.float32)
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError, LookupError) as error:
        raise Unreadable(
            f"events without the fields of a completion ({type(error).__name__}: {error})"
        ) from None
    if not len(new):
        raise Unreadable("a completion without token ids: the server does not know return_token_ids")
    if len(new) != len(untempered) or not np.isfinite(untempered).all():
        raise Unreadable(f"{len(new)} token ids with {len(untempered)} log-probs: need a finite one each")
    if finish not in ("stop", "length"):
        raise Unreadable(f"a completion with finish_reason={finish!r}")
    if finish == "stop" and not sampling.stop_strings and ids[-1] not in sampling.stop_ids:
        raise Unreadable(f"it stopped after the id {ids[-1]}, which is no stop id")
    size = len(new)
    columns = Columns(
        logp=untempered if sampling.temperature else np.zeros(size, dtype=np.float32),
        untempered=untempered,
        entropy=np.full(size, np.nan, dtype=np.float32),
        version=np.zeros(size, dtype=np.int32),
    )
    return Chunk(ids=new, columns=columns, finish="stop" if finish == "stop" else "length")
