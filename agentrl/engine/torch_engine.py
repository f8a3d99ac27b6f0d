"""The default engine: continuous batching of a Hugging Face model inside this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from agentrl.engine.admission import CAPACITY_ROWS, Admission
from agentrl.engine.batcher import Batcher, Decode
from agentrl.engine.fingerprint import fingerprints
from agentrl.engine.forward import choose
from agentrl.engine.kv import shape_of
from agentrl.engine.protocol import Capabilities, Chunk, Sampling
from agentrl.engine.requests import Request
from agentrl.engine.weights import check_model, check_weights
from agentrl.engine.worker import Worker
from agentrl.episode import Floats, Ids, as_ids
from agentrl.errors import ConfigError, EngineError
from agentrl.torch_threads import threads_for, torch_threads

T = TypeVar("T")
log = logging.getLogger(__name__)

CPU_KV_BYTES = 4 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine did so far."""

    steps: int
    sampled_tokens: int
    prefilled_tokens: int
    """Prompt tokens that were computed."""
    reused_tokens: int
    """Prompt tokens whose keys and values were there already."""
    live: int
    waiting: int
    kv_bytes: int
    """Memory that keys and values take now; on a CPU a prefix that rows share counts once."""
    busy_seconds: float
    """Time spent in steps."""


class TorchEngine:
    """Samples from an `AutoModelForCausalLM`, on whatever device it stands.

    Requests join and leave at every step. A step feeds one token of each request that samples and, beside
    them, parts of prompts, up to a fixed number of tokens. A finished request's keys and values stay in its
    row until the row is needed: the next turn of a conversation goes on there, attempts of a group and forks
    share the pages of their prefix (on a CPU; on a GPU they copy it), and what was evicted is computed again.

    *Deterministic*, a completion (ids, log-probs, entropies) is a function of weights, prompt and request
    seed, bit for bit, whatever shares the batch, whenever it arrives and whether its prompt was computed
    now, in earlier turns, by a sibling or after an eviction. It follows from three things: the number of
    tokens in a step is rounded up to whole tiles of the matrix kernels, every token is one query over keys
    padded with exact zeros to whole vectors, and random numbers are a function of request seed and
    position. Whether this machine's kernels hold to that is tried at the start, with the weights at hand.
    It holds between runs with the same library, machine and number of threads. In both modes log-probs are
    within 1e-5 of the exact ones for float32 weights of the usual size; like those of any float32 pass, the
    trainer's too, their rounding errors grow with the weights.

    Qwen2, Qwen3 and Llama go through a packed pass of our own over the model's parameters. Any other model,
    or kernels that fail the trial, go through the model's modules, deterministic one token at a time: right
    and slow. The engine logs a warning then, and `slow_because` says why.

    Why not transformers' own continuous batching (`ContinuousBatchingManager`): it has pages, prefix
    sharing in whole pages, streaming and the log-prob of the distribution drawn from. Training needs
    besides these: the untempered log-prob, entropy and weight version of each token; settings, stop strings
    and a seed for each request, where it draws from one generator for all of them, so that company changes
    what is sampled; new weights between two steps; prefixes that end anywhere. On a CPU its attention
    multiplies all queries of a step with all keys of all requests.

    Args:
        model: Owned by the engine from now on; for training, give the engine a copy.
        capacity_rows: Most requests in flight; further ones wait.
        max_context: Longest prompt plus completion; None: the model's `max_position_embeddings`.
        decode: Turns ids into text; needed for stop strings.
        stream: Give each token as soon as it is sampled, instead of one chunk at the end.
        kv_bytes: Memory for keys and values; None: 4 GiB on a CPU, 70 % of what is free on a GPU.
        num_threads: Torch threads of the engine; None: 1 for models below 10M parameters on a CPU, else all.
        deterministic: None: on a CPU. Costs a few per cent to a third of the throughput.

    Raises:
        ConfigError: A model, context or capacity that cannot work.
    """

    def __init__(
        self,
        model: Any,
        *,
        capacity_rows: int = CAPACITY_ROWS,
        max_context: int | None = None,
        decode: Decode | None = None,
        stream: bool = False,
        kv_bytes: int | None = None,
        num_threads: int | None = None,
        deterministic: bool | None = None,
    ) -> None:
        check_model(model)
        model.eval()
        self._model, self._decode = model, decode
        self._vocabulary = int(model.config.vocab_size)
        self._max_context = _context(model, max_context)
        if capacity_rows < 1:
            raise ConfigError(f"capacity_rows={capacity_rows}: need 1 or more")
        if num_threads is not None and num_threads < 1:
            raise ConfigError(f"num_threads={num_threads}: need 1 or more, or None")
        admission = Admission(
            shape_of(model),
            capacity_rows=capacity_rows,
            max_context=self._max_context,
            kv_bytes=_kv_bytes(model.device) if kv_bytes is None else kv_bytes,
        )
        threads = threads_for(model) if num_threads is None else num_threads
        exact = model.device.type == "cpu" if deterministic is None else deterministic
        self._served = _in_thread(
            threads, lambda: choose(model, max_context=self._max_context, deterministic=exact)
        )
        if self._served.slow_because is not None:
            log.warning("the slow reference path serves this model: %s", self._served.slow_because)
        self._capabilities = Capabilities(
            max_context=self._max_context,
            deterministic=self._served.deterministic,
            dtype=str(model.dtype).removeprefix("torch."),
        )
        self._batcher = Batcher(model, self._served, admission, decode, stream=stream)
        self._worker = Worker(self._batcher, num_threads=threads)

    @property
    def capabilities(self) -> Capabilities:
        """Everything; bit-for-bit determinism as asked."""
        return self._capabilities

    @property
    def slow_because(self) -> str | None:
        """Why the model's own modules serve instead of the packed pass; None: they do not."""
        return self._served.slow_because

    @property
    def version(self) -> int:
        """Version of the weights that serve now."""
        return self._batcher.version

    @property
    def stats(self) -> EngineStats:
        """Counters at this moment."""
        batcher, admission = self._batcher, self._batcher.admission
        return EngineStats(
            steps=batcher.steps,
            sampled_tokens=batcher.sampled_tokens,
            prefilled_tokens=admission.prefilled_tokens,
            reused_tokens=admission.reused_tokens,
            live=len(admission.rows.live),
            waiting=len(admission.waiting),
            kv_bytes=admission.pool.allocated_bytes,
            busy_seconds=self._worker.busy_seconds,
        )

    # --------------------------------------------------------------- requests

    async def generate(
        self, ids: Sequence[int] | Ids, sampling: Sampling, *, seed: int
    ) -> AsyncGenerator[Chunk, None]:
        """Sample a continuation; see `Engine.generate`."""
        request = self._request(ids, sampling, seed)
        self._worker.submit(request)
        done = False
        try:
            while not done:
                answer = await request.answers.get()
                done = isinstance(answer, EngineError) or answer.finish is not None
                if isinstance(answer, EngineError):
                    raise answer
                yield answer
        finally:
            if not done:
                self._worker.cancel(request)

    def _request(self, ids: Sequence[int] | Ids, sampling: Sampling, seed: int) -> Request:
        prompt = self._checked(ids)
        if len(prompt) >= self._max_context:
            raise ConfigError(
                f"a prompt of {len(prompt)} tokens does not fit into the context of {self._max_context}:"
                " shorten it or take a model with a longer context"
            )
        if sampling.stop_strings and self._decode is None:
            raise ConfigError(
                f"stop_strings={sampling.stop_strings} need text: give the engine decode=tokenizer.decode"
            )
        limit = self._max_context
        if sampling.max_tokens is not None:
            limit = min(len(prompt) + sampling.max_tokens, limit)
        loop = asyncio.get_running_loop()
        request = Request(ids=prompt, sampling=sampling, seed=seed, limit=limit, loop=loop)
        self._batcher.admission.refuse(request)
        return request

    def _checked(self, ids: Sequence[int] | Ids) -> Ids:
        array = as_ids(ids)
        if array.ndim != 1 or not len(array):
            raise ConfigError(f"a prompt of shape {array.shape}: need one or more token ids")
        if array.min() < 0 or array.max() >= self._vocabulary:
            worst = array.min() if array.min() < 0 else array.max()
            raise ConfigError(f"token id {worst} is not in the model's vocabulary of {self._vocabulary}")
        return array

    # --------------------------------------------------------------- commands

    async def score(self, ids: Sequence[int] | Ids) -> Floats:
        """Give the untempered log-prob of each token after the first; see `Engine.score`."""
        array = self._checked(ids)
        if len(array) > self._max_context:
            raise ConfigError(f"{len(array)} tokens do not fit into the context of {self._max_context}")
        return await self._worker.call(lambda: self._batcher.score(array))

    async def update(self, named_tensors: Mapping[str, Tensor], version: int) -> None:
        """Take new weights between two steps; requests in flight go on under them.

        Raises:
            ConfigError: Names or shapes are not the model's.
        """
        tensors = check_weights(self._model, named_tensors)
        await self._worker.call(lambda: self._batcher.load(tensors, version))

    async def fingerprints(self) -> Mapping[str, int]:
        """Give the fingerprint of every parameter that serves now; see `HoldsWeights`."""
        return await self._worker.call(lambda: fingerprints(self._model))

    async def pause(self) -> None:
        """Sample nothing until `resume`; returns when the step under way is done."""
        await self._worker.call(lambda: setattr(self._worker, "paused", True))

    async def resume(self) -> None:
        """Go on."""
        await self._worker.call(lambda: setattr(self._worker, "paused", False))

    async def close(self) -> None:
        """End the engine's thread; open requests end with `EngineError`."""
        await self._worker.close()


def _context(model: Any, max_context: int | None) -> int:
    longest = int(model.config.max_position_embeddings)
    if max_context is None:
        return longest
    if not 1 < max_context <= longest:
        raise ConfigError(f"max_context={max_context}: the model allows 2..{longest}")
    return max_context


def _kv_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return CPU_KV_BYTES
    return int(0.7 * torch.cuda.mem_get_info(device)[0])


def _in_thread(num_threads: int, work: Callable[[], T]) -> T:
    """Run in a thread with as many torch threads as the engine's own: the number changes sums."""

    def run() -> T:
        with torch_threads(num_threads):
            return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()
