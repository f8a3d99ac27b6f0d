"""What an engine does where the system has no more to give: `python -m tests.engine.starved NAME`.

Each runs in a process of its own, since it takes everything that the process may have.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import mmap
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentrl.engine.complete import complete
from agentrl.engine.kv import KVPool
from agentrl.engine.pages import PAGE, max_maps, num_maps
from agentrl.engine.protocol import Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import as_ids
from agentrl.errors import EngineError
from tests.engine.rows import read, shape, write

MODEL: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 8,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "max_position_embeddings": 8192,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


@contextmanager
def mappings_left(left: int) -> Iterator[None]:
    """Take all mappings of this process but so many: every second page of a region forbids to be read."""
    count = max_maps() - num_maps() - left
    region = mmap.mmap(-1, count * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    at = ctypes.addressof(ctypes.c_char.from_buffer(region))
    protect = ctypes.CDLL(None).mprotect
    for page in range(1, count - 1, 2):
        assert protect(ctypes.c_void_p(at + page * PAGE), ctypes.c_size_t(PAGE), 0) == 0
    yield
    assert protect(ctypes.c_void_p(at), ctypes.c_size_t(count * PAGE), 3) == 0


def no_mapping() -> None:
    """Mappings are gone after a pool has looked how many there are: forks copy, and every row is right."""
    pool = KVPool(shape(32), rows=4, positions=1024)
    for left in range(16):
        pool.clear()
        for row in range(4):
            write(pool, row, 0, torch.arange(1000.0) + row)
        pool.fork(0, 3, 1000)
        with mappings_left(left):
            pool.fork(0, 1, 900)
        write(pool, 1, 900, torch.full((50,), 7.0))
        assert read(pool, 1, 950) == [[float(i) for i in range(900)] + [7.0] * 50] * 4
        for row, number in ((0, 0), (2, 2), (3, 0)):
            assert read(pool, row, 1000) == [[float(i + number) for i in range(1000)]] * 4


def few_mappings() -> None:
    """The last mappings are left to others: forks share while there are plenty, and copy then."""
    pool = KVPool(shape(16), rows=64, positions=1024)
    write(pool, 0, 0, torch.arange(1024.0))
    alone = pool.allocated_bytes
    with mappings_left(300):
        for row in range(1, 64):
            pool.fork(0, row, 1000)
        assert max_maps() - num_maps() > 20
    assert all(read(pool, row, 1000) == read(pool, 0, 1000) for row in range(1, 64))
    assert 8 * alone < pool.allocated_bytes < 56 * alone, pool.allocated_bytes / alone


def no_memory() -> None:
    """Memory is gone when the pool must grow: whoever waits is told."""
    print(asyncio.run(_crowd()))


async def _crowd() -> str:
    torch.manual_seed(0)
    engine = TorchEngine(Qwen2ForCausalLM(Qwen2Config(**MODEL)))
    await complete(engine, as_ids([1, 2, 3]), Sampling(max_tokens=4), seed=0)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), -1))
    prompts = [as_ids([i % 3, *[5] * 8000]) for i in range(40)]
    jobs = [complete(engine, p, Sampling(max_tokens=4), seed=i) for i, p in enumerate(prompts)]
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*jobs, return_exceptions=True)
    assert all(isinstance(a, EngineError) for a in answers), answers
    (text,) = {str(a) for a in answers}
    return text


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    {f.__name__: f for f in (no_mapping, few_mappings, no_memory)}[sys.argv[1]]()
