"""The default engine: continuous batching of a Hugging Face model inside this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agentrl.engine.admission import Admission
from agentrl.engine.batcher import Batcher, Decode, shape_of
from agentrl.engine.fingerprint import fingerprints
from agentrl.engine.protocol import Capabilities, Chunk, Sampling
from agentrl.engine.requests import Request
from agentrl.engine.weights import check_model, check_weights
from agentrl.engine.worker import Worker
from agentrl.episode import Floats, Ids, as_ids
from agentrl.errors import ConfigError, EngineError

CPU_KV_BYTES = 4 * 2**30
SMALL_MODEL = 10_000_000


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
    busy_seconds: float
    """Time spent in steps."""


class TorchEngine:
    """Samples from an `AutoModelForCausalLM` (Qwen2, Qwen3, Llama), on whatever device it stands.

    Requests join and leave at every step. A finished request's keys and values stay in its row until the row
    is needed: the next turn of a conversation goes on there, and attempts that share a prompt copy it.

    Transformers has a continuous-batching manager of its own. This engine differs because training needs what
    that one does not give: log-prob, entropy and weight version of each token from the step that drew it, new
    weights between two steps, reuse across turns and forks, and random numbers that follow from request seed
    and position.

    Args:
        model: Owned by the engine from now on; for training, give the engine a copy.
        capacity_rows: Most requests in flight; further ones wait.
        max_context: Longest prompt plus completion; None: the model's `max_position_embeddings`.
        decode: Turns ids into text; needed for stop strings.
        stream: Give each token as soon as it is sampled, instead of one chunk at the end.
        kv_bytes: Memory for keys and values; None: 4 GiB on a CPU, 70 % of what is free on a GPU.
        num_threads: Torch threads of the engine; None: 1 for models below 10M parameters on a CPU.

    Raises:
        ConfigError: A model, context or capacity that cannot work.
    """

    def __init__(
        self,
        model: Any,
        *,
        capacity_rows: int = 256,
        max_context: int | None = None,
        decode: Decode | None = None,
        stream: bool = False,
        kv_bytes: int | None = None,
        num_threads: int | None = None,
    ) -> None:
        check_model(model)
        model.eval()
        self._model, self._decode = model, decode
        self._vocabulary = int(model.config.vocab_size)
        self._max_context = _context(model, max_context)
        if capacity_rows < 1:
            raise ConfigError(f"capacity_rows={capacity_rows}: need 1 or more")
        admission = Admission(
            shape_of(model),
            capacity_rows=capacity_rows,
            max_context=self._max_context,
            kv_bytes=_kv_bytes(model.device) if kv_bytes is None else kv_bytes,
        )
        self._batcher = Batcher(model, admission, decode, stream=stream)
        self._worker = Worker(
            self._batcher, num_threads=_threads(model) if num_threads is None else num_threads
        )

    @property
    def capabilities(self) -> Capabilities:
        """Everything but bit-for-bit determinism."""
        dtype = str(self._model.dtype).removeprefix("torch.")
        return Capabilities(max_context=self._max_context, dtype=dtype)

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
        limit = min(len(prompt) + sampling.max_tokens, self._max_context)
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


def _threads(model: Any) -> int:
    small = sum(p.numel() for p in model.parameters()) < SMALL_MODEL
    return 1 if small and model.device.type == "cpu" else 0
