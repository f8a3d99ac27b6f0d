"""Rows that share pages: each reads as if it were alone, and a prefix is held once."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import agentrl.engine.pages as pages
from agentrl.engine.complete import complete
from agentrl.engine.kv import KVPool
from agentrl.engine.pages import PAGE
from agentrl.engine.protocol import Completion, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import as_ids
from agentrl.errors import EngineError
from tests.engine.rows import read, shape, write
from tests.engine.talks import Talk, all_talks, alone, assert_same_bits, talks

MakeModel = Callable[..., Any]
rows = st.integers(0, 4)
MAX_LENGTH = 640


class Rows(RuleBasedStateMachine):
    """Any sequence of forks, writes and changes of size leaves in each row what was written into it."""

    @initialize(
        head_dim=st.sampled_from([16, 24, 64, 96]), dtype=st.sampled_from([torch.float32, torch.float16])
    )
    def begin(self, head_dim: int, dtype: torch.dtype) -> None:
        self.pool = KVPool(shape(head_dim, dtype), rows=5, positions=MAX_LENGTH)
        self.held: list[list[float]] = [[] for _ in range(5)]
        self.next = 0

    def numbers(self, count: int) -> list[float]:
        self.next += 1
        return [float(1 + (self.next * 37 + i) % 500) for i in range(count)]

    @rule(row=rows, keep=st.floats(0, 1), count=st.integers(1, 300))
    def go_on(self, row: int, keep: float, count: int) -> None:
        begin = round(keep * len(self.held[row]))
        numbers = self.numbers(min(count, MAX_LENGTH - begin))
        self.pool.own(row, begin)
        write(self.pool, row, begin, torch.tensor(numbers))
        self.held[row] = self.held[row][:begin] + numbers

    @rule(source=rows, into=rows, share=st.floats(0, 1))
    def fork(self, source: int, into: int, share: float) -> None:
        if source != into:
            length = round(share * len(self.held[source]))
            self.pool.fork(source, into, length)
            self.held[into] = self.held[source][:length]

    @rule(row=rows)
    def wipe(self, row: int) -> None:
        self.pool.wipe(row)
        assert not self.pool.keys[0][row].any() and not self.pool.values[1][row].any()
        self.held[row] = []

    @rule()
    def clear(self) -> None:
        self.pool.clear()
        assert self.pool.allocated_bytes == 0 and not any(x.any() for x in self.pool.keys)
        self.held = [[] for _ in range(5)]

    @rule(order=st.permutations(range(5)), positions=st.sampled_from([MAX_LENGTH, MAX_LENGTH + 160]))
    def resize(self, order: list[int], positions: int) -> None:
        filled = torch.tensor([len(self.held[i]) for i in order]).numpy()
        self.pool.resize(torch.tensor(order).numpy(), filled, rows=5, positions=positions)
        self.held = [self.held[i] for i in order]

    @precondition(lambda self: hasattr(self, "pool"))
    @invariant()
    def every_row_reads_as_written(self) -> None:
        for row, held in enumerate(self.held):
            assert all(layer == held for layer in read(self.pool, row, len(held)))


TestRows = Rows.TestCase
TestRows.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_a_fork_takes_no_memory() -> None:
    pool = KVPool(shape(32), rows=64, positions=1024)
    numbers = torch.arange(1000.0)
    write(pool, 0, 0, numbers)
    alone = pool.allocated_bytes
    for row in range(1, 64):
        pool.fork(0, row, 1000)
    # Of a head's 1,000 positions of 128 bytes, 8 fill no whole page: each row has a page of its own for them.
    assert pool.allocated_bytes - alone == 63 * 4 * PAGE
    assert read(pool, 63, 1000) == read(pool, 0, 1000) == [numbers.tolist()] * 4


def test_memory_goes_back_with_its_last_user() -> None:
    pool = KVPool(shape(32), rows=4, positions=1024)
    write(pool, 0, 0, torch.arange(1024.0))
    whole = pool.allocated_bytes
    pool.fork(0, 1, 1024)
    pool.own(0, 0)  # its first user is another sequence now
    assert pool.allocated_bytes == whole and read(pool, 1, 1024) == [torch.arange(1024.0).tolist()] * 4
    write(pool, 2, 0, torch.arange(1024.0))
    assert pool.allocated_bytes == 2 * whole
    pool.fork(2, 1, 1024)  # nobody is left who has the first row's pages
    assert pool.allocated_bytes == whole


def test_forks_of_forks_survive_their_ancestors() -> None:
    pool = KVPool(shape(16), rows=40, positions=1024)
    write(pool, 0, 0, torch.arange(1024.0))
    want = torch.arange(1024.0)
    for row in range(1, 40):  # each goes on from the row before it, and that begins another sequence
        length = 1024 - 16 * row
        pool.fork(row - 1, row, length)
        pool.own(row - 1, 0)
        write(pool, row - 1, 0, torch.full((200,), -1.0))
        write(pool, row, length, torch.full((16,), float(row)))
        want = torch.cat((want[:length], torch.full((16,), float(row))))
        assert read(pool, row, length + 16) == [want.tolist()] * 4


def test_a_process_knows_its_mappings() -> None:
    assert 10 < pages.num_maps() < pages.max_maps()


def starved(name: str) -> str:
    """Run one of `starved.py`'s functions in a process of its own; gives what it said."""
    command = [sys.executable, "-m", "tests.engine.starved", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_last_mappings_are_left_to_others() -> None:
    assert "cannot map" not in starved("few_mappings")


def test_where_the_kernel_refuses_a_mapping_a_fork_copies() -> None:
    said = starved("no_mapping")
    assert said.count("cannot map pages of keys and values: a fork copies its keys and values") > 2


def test_without_memory_to_grow_an_engine_answers_everybody() -> None:
    assert "the engine died: RuntimeError" in (said := starved("no_memory")) and "can't allocate" in said


@pytest.mark.parametrize("name", ["fork", "own"])
def test_an_engine_that_dies_while_it_makes_room_answers_everybody(
    name: str, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: KVPool, *args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("no room")

    async def crowd() -> list[Any]:
        engine = TorchEngine(long_model(make_model))
        monkeypatch.setattr(KVPool, name, fail)
        prompts = [as_ids([i % 3, *range(40)]) for i in range(40)]
        jobs = [complete(engine, p, Sampling(max_tokens=4), seed=i) for i, p in enumerate(prompts)]
        async with asyncio.timeout(60):
            return list(await asyncio.gather(*jobs, return_exceptions=True))

    for answer in asyncio.run(crowd()):
        assert isinstance(answer, EngineError) and "no room" in str(answer)


def long_model(make_model: MakeModel, family: str = "qwen2") -> Any:
    """A page holds 16 of its positions."""
    return make_model(family, head_dim=64, max_position_embeddings=640)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@settings(max_examples=8)
@given(batch=talks(), cuts=st.lists(st.integers(0, 300), min_size=8, max_size=8), rows=st.integers(2, 8))
def test_shared_pages_change_no_bit(
    family: str, make_model: MakeModel, batch: list[Talk], cuts: list[int], rows: int
) -> None:
    """Long prompts that begin alike, more requests than rows."""
    model, base = long_model(make_model, family), np.arange(300) % 60
    batch = [replace(t, prompt=as_ids([*base[:cut], *t.prompt])) for t, cut in zip(batch, cuts, strict=False)]
    asked = asyncio.run(all_talks(TorchEngine(model, capacity_rows=rows), batch))
    for a, want in zip(asked, asyncio.run(alone(model, asked)), strict=True):
        assert_same_bits(a.got, want)


@contextmanager
def no_files_in_memory() -> Iterator[None]:
    """No file of this process may hold more than a page."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (pages.PAGE, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_group_holds_its_prompt_once(make_model: MakeModel, caplog: pytest.LogCaptureFixture) -> None:
    """And where the system gives no files in memory, each attempt has a copy."""
    model, prompt = long_model(make_model), as_ids(np.arange(400) % 60)

    async def group() -> tuple[list[Completion], int]:
        engine = TorchEngine(model)
        jobs = [complete(engine, prompt, Sampling(max_tokens=8), seed=i) for i in range(16)]
        done = await asyncio.gather(*jobs)
        kv_bytes = engine.stats.kv_bytes
        await engine.close()
        return done, kv_bytes

    shared, memory = asyncio.run(group())
    assert "no memory that rows can share" not in caplog.text
    with no_files_in_memory():
        copied, whole = asyncio.run(group())
    assert "no memory that rows can share" in caplog.text
    assert memory < whole / 8
    for got, want in zip(shared, copied, strict=True):
        assert_same_bits(got, want)
