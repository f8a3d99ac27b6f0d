"""Rows that share pages: each reads as if it were alone, and a prefix is held once."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor

import agentrl.engine.kv as kv
import agentrl.engine.pages as pages
from agentrl.engine.complete import complete
from agentrl.engine.kv import KVPool, Shape
from agentrl.engine.pages import PAGE, Pages
from agentrl.engine.protocol import Completion, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import as_ids
from agentrl.errors import EngineError
from tests.engine.talks import Talk, all_talks, alone, assert_same_bits, talks

MakeModel = Callable[..., Any]
rows = st.integers(0, 4)
MAX_LENGTH = 640


def shape(head_dim: int, dtype: torch.dtype = torch.float32, layers: int = 2) -> Shape:
    return Shape(layers=layers, heads=1, head_dim=head_dim, dtype=dtype, device=torch.device("cpu"))


def write(pool: KVPool, row: int, begin: int, numbers: Tensor) -> None:
    """Write positions begin.. of a row as a step does: [N] becomes all numbers of a position."""
    count = len(numbers)
    positions = begin + torch.arange(count)
    places = pool.places(torch.full((count,), row), positions)
    for layer in range(pool.shape.layers):
        pairs = (numbers + layer)[:, None, None].expand(count, 2, pool.shape.head_dim)
        pool.write(layer, places, pairs.to(pool.shape.dtype))


def read(pool: KVPool, row: int, length: int) -> list[list[float]]:
    """What the first positions hold: of each layer, keys and values, which must be one number a position."""
    found = []
    for layer in range(pool.shape.layers):
        for pairs in (pool.keys[layer][row, 0, :length], pool.values[layer][row, 0, :length]):
            assert torch.equal(pairs, pairs[:, :1].expand_as(pairs))
            found.append((pairs[:, 0].float() - layer).tolist())
    return found


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


def test_with_few_mappings_left_forks_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [4 * 12 * 4, 0]  # enough for four forks, then nothing
    monkeypatch.setattr(pages, "num_maps", lambda: -left.pop(0))
    monkeypatch.setattr(pages, "max_maps", lambda: 0)
    pool = KVPool(shape(16), rows=8, positions=1024)
    write(pool, 0, 0, torch.arange(1024.0))
    alone = pool.allocated_bytes
    for row in range(1, 8):
        pool.fork(0, row, 1000)
        assert read(pool, row, 1000) == read(pool, 0, 1000)
    assert 4 * alone < pool.allocated_bytes < 5 * alone, "four forks shared, three copied"


def test_a_process_knows_its_mappings() -> None:
    assert 10 < pages.num_maps() < pages.max_maps()


@pytest.mark.parametrize("refused", range(4))
def test_where_the_kernel_refuses_a_mapping_a_fork_copies(
    refused: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pool = KVPool(shape(32), rows=3, positions=1024)
    for row in range(3):
        write(pool, row, 0, torch.arange(1000.0) + row)
    number, really = itertools.count(), Pages._map

    def map_(self: Pages, *where: int) -> None:
        if next(number) == refused:
            raise OSError(12, "Cannot allocate memory")
        really(self, *where)

    monkeypatch.setattr(Pages, "_map", map_)
    pool.fork(0, 1, 900)
    assert "a fork copies" in caplog.text
    write(pool, 1, 900, torch.full((50,), 7.0))
    assert read(pool, 1, 950) == [[float(i) for i in range(900)] + [7.0] * 50] * 4
    for row in (0, 2):
        assert read(pool, row, 1000) == [[float(i + row) for i in range(1000)]] * 4


@pytest.mark.parametrize("name", ["resize", "fork", "own"])
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


def test_a_group_holds_its_prompt_once(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompt = long_model(make_model), as_ids(np.arange(400) % 60)

    async def group() -> tuple[list[Completion], int]:
        engine = TorchEngine(model)
        jobs = [complete(engine, prompt, Sampling(max_tokens=8), seed=i) for i in range(16)]
        done = await asyncio.gather(*jobs)
        kv_bytes = engine.stats.kv_bytes
        await engine.close()
        return done, kv_bytes

    shared, memory = asyncio.run(group())
    monkeypatch.setattr(kv, "_pages", lambda *size: None)
    copied, whole = asyncio.run(group())
    assert memory < whole / 8
    for got, want in zip(shared, copied, strict=True):
        assert_same_bits(got, want)
