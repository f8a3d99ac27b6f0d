"""Padded, packed and shared passes say the same, and no row sees another."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentrl.errors import ConfigError
from agentrl.trainers.batch import Row
from agentrl.trainers.passes import tiles
from agentrl.trainers.passes.backward import backward
from agentrl.trainers.passes.forward import Forward, Scores
from agentrl.trainers.passes.planning import Pass, Path, packed_buckets, padded_buckets
from agentrl.trainers.passes.prefixes import pack
from tests.trainers.forests import (
    MODELS,
    SMALL,
    TREES,
    VOCABULARY,
    Branch,
    family,
    gemma2,
    leaves,
    opt,
    outcome,
    random_rows,
)

PATHS: tuple[Path, ...] = ("packed", "shared", "auto")


def assert_same(one: tuple[Tensor, dict[str, Tensor]], other: tuple[Tensor, dict[str, Tensor]]) -> None:
    assert_close(one[0], other[0], rtol=0, atol=1e-5)
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        assert_close(value, other[1][name], rtol=1e-5, atol=1e-5)


def by_the_model(model: Any, rows: list[Row]) -> Tensor:
    """Log-probs row by row, by the model's own logits."""
    found = []
    for row in rows:
        logits = model(torch.from_numpy(row.ids)[None]).logits[0]
        logp = logits.log_softmax(-1)[torch.from_numpy(row.positions)]
        found.append(logp.gather(1, torch.from_numpy(row.targets)[:, None])[:, 0])
    return torch.cat(found).detach()


@pytest.mark.parametrize("name", MODELS)
def test_every_path_gives_the_log_probs_and_gradients_of_the_model(name: str) -> None:
    model, rows = family(name), random_rows(13, seed=1)
    padded = outcome(model, rows, "padded")
    assert_close(padded[0], by_the_model(model, rows), rtol=0, atol=1e-5)
    assert max(float(g.abs().max()) for g in padded[1].values()) > 1e-2
    for path in PATHS:
        for max_tokens in (1, 70, 4096):
            assert_same(padded, outcome(model, rows, path, max_tokens=max_tokens))


@pytest.mark.parametrize("halved", [2, tiles.HALVED])
@pytest.mark.parametrize("path", ["packed", "shared"])
def test_no_row_sees_another(path: Path, halved: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in one row, the others' log-probs keep every bit."""
    monkeypatch.setattr(tiles, "HALVED", halved)
    model, rows = family("qwen3"), random_rows(8, seed=2)
    forward = Forward(model, path=path)
    other = rows[3].ids.copy()
    other[len(other) // 2 :] = (other[len(other) // 2 :] + 1) % VOCABULARY
    changed = [*rows[:3], replace(rows[3], ids=other), *rows[4:]]
    with torch.no_grad():
        before, after = (
            torch.split(forward(these).logp_N, [len(r.positions) for r in rows]) for these in (rows, changed)
        )
    for index in range(8):
        assert torch.equal(before[index], after[index]) == (index != 3)


@pytest.mark.parametrize("path", ["padded", "packed"])
@pytest.mark.parametrize("broken", range(4))
def test_what_is_no_number_stays_in_its_row(path: Path, broken: int) -> None:
    """A masked NaN counts: 0 times it is NaN. A shared beginning stands in one of its rows and may get it."""
    model = family("qwen2")
    forward = Forward(model, path=path)
    with torch.no_grad():
        model.model.embed_tokens.weight[broken] = torch.nan
    for seed in range(8):
        rows = random_rows(13, seed=seed)
        scores = torch.split(forward(rows).logp_N, [len(row.positions) for row in rows])
        for row, logp_N in zip(rows, scores, strict=True):
            assert broken in row.ids[:-1] or bool(logp_N.isfinite().all())


@given(TREES, st.integers(0, 2**31), st.sampled_from([2, tiles.HALVED]))
def test_a_tree_teaches_what_its_leaves_teach_one_by_one(tree: Branch, seed: int, halved: int) -> None:
    """A token that several leaves share has the sum of their gradients, each with its own advantage."""
    rows, model = leaves(tree), MODEL
    weight_N = torch.randn(sum(len(r.positions) for r in rows), generator=torch.Generator().manual_seed(seed))
    flat = outcome(model, rows, "padded", weight_N=weight_N)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "HALVED", halved)
        for max_tokens in (4096, 12):
            assert_same(flat, outcome(model, rows, "shared", weight_N=weight_N, max_tokens=max_tokens))


MODEL = family("qwen2")


@given(TREES)
def test_a_packed_sequence_is_the_tree(tree: Branch) -> None:
    """Every row reads its own tokens back, and no beginning stands there twice."""
    rows = leaves(tree)
    packed = pack(rows, shared=True)
    for row, place in zip(rows, packed.places, strict=True):
        assert packed.ids_T[place].tolist() == row.ids[:-1].tolist()
        assert packed.positions_T[place].tolist() == list(range(len(row) - 1))
    beginnings = {tuple(row.ids[: n + 1].tolist()) for row in rows for n in range(len(row) - 1)}
    assert len(packed.ids_T) == len(beginnings)


@given(st.integers(1, 40), st.integers(0, 9), st.integers(1, 300), st.integers(1, 5))
def test_buckets_hold_every_row_once_and_fit(count: int, seed: int, max_tokens: int, unit: int) -> None:
    rows = random_rows(count, seed=seed)
    units = [list(range(i, min(i + unit, count))) for i in range(0, count, unit)]
    for buckets, size in (
        (padded_buckets(rows, units, max_tokens=max_tokens), padded_size),
        (packed_buckets(rows, units, max_tokens=max_tokens, shared=False), packed_size),
        (packed_buckets(rows, units, max_tokens=max_tokens, shared=True), shared_size),
    ):
        assert sorted(i for b in buckets for i in b) == list(range(count))
        assert all(len({i in bucket for i in one}) == 1 for bucket in buckets for one in units)
        for bucket in buckets:
            alone = any(sorted(bucket) == one for one in units)
            assert alone or size([rows[i] for i in bucket]) <= max_tokens


def padded_size(rows: list[Row]) -> int:
    return len(rows) * (max(map(len, rows)) - 1)


def packed_size(rows: list[Row]) -> int:
    return sum(len(row) - 1 for row in rows)


def shared_size(rows: list[Row]) -> int:
    return len(pack(rows, shared=True).ids_T)


def test_auto_shares_where_that_is_cheaper() -> None:
    def rows(prompt: int, count: int) -> list[Row]:
        random = np.random.default_rng(0)
        start = random.integers(0, VOCABULARY, prompt)
        streams = [np.concatenate([start, random.integers(0, VOCABULARY, 12)]) for _ in range(count)]
        return [Row(ids=ids, positions=np.arange(prompt, len(ids) - 1)) for ids in streams]

    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SMALL | {"hidden_size": 256, "intermediate_size": 512}))
    forward = Forward(model)
    shared, alone = forward.passes(rows(100, 16)), forward.passes(rows(3, 1))
    assert [one.tiles is not None for one in (*shared, *alone)] == [True, False]
    assert shared[0].num_tokens == shared_size(rows(100, 16)) <= 100 + 16 * 11


class Watched(Forward):
    """Passes that remember their sizes where they have a gradient."""

    def __init__(self, model: nn.Module, **settings: Any) -> None:
        self.sizes: list[int] = []
        super().__init__(model, **settings)

    def run(self, one: Pass, *, temperature: float = 1.0, entropy: bool = False) -> Scores:
        if torch.is_grad_enabled():
            self.sizes.append(one.num_tokens)
        return super().run(one, temperature=temperature, entropy=entropy)


@pytest.mark.parametrize("path", ["padded", "shared"])
def test_a_loss_of_many_rows_is_never_cut_but_its_passes_are(path: Path) -> None:
    """The square of a sum is no sum of squares: the rows' losses do not add up."""
    rows, gradients, sizes = random_rows(12, seed=6), [], []
    for max_tokens in (4096, 45):
        model = family("qwen2", dtype=torch.float64)
        forward = Watched(model, path=path, max_tokens=max_tokens)

        def loss(members: list[int], scores: Scores) -> Tensor:
            assert len(members) == 12 and scores.entropy_N is not None
            return (scores.logp_N.mean() + 2).square() + scores.entropy_N.mean().square()

        value = backward(forward, rows, loss, units=[list(range(12))], temperature=0.8, entropy=True)
        gradients.append(
            (torch.tensor(value), {n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        )
        sizes.append(forward.sizes)
    assert len(sizes[0]) == 1 and len(sizes[1]) >= 3
    assert max(sizes[1]) <= 45 < sizes[0][0]
    assert_same(*gradients)


def test_a_model_that_cannot_be_packed_is_padded_or_refused() -> None:
    model, rows = gemma2(), random_rows(5, seed=3)
    forward = Forward(model)
    assert forward.path == "padded"
    assert_close(forward(rows).logp_N.detach(), by_the_model(model, rows), rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match="path='shared': Gemma2ForCausalLM does not run packed"):
        Forward(model, path="shared")


class Blended(nn.Module):
    """A layer that mixes each token with the one that lies before it, whichever row that belongs to."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        mixed: Tensor = self.inner(hidden_BTD)
        return mixed + 0.1 * nn.functional.pad(hidden_BTD, (0, 0, 1, -1))


def test_a_model_that_mixes_neighbours_is_found_out() -> None:
    model = family("qwen2")
    model.model.layers[1].mlp = Blended(model.model.layers[1].mlp)
    assert Forward(model).path == "padded"


def test_logits_of_an_unknown_kind_are_refused() -> None:
    model = family("qwen2")
    model.forward = Doubled(model.forward)
    with pytest.raises(ConfigError, match="does something to its logits"):
        Forward(model)


class Doubled:
    """A forward pass whose logits are twice the product."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, *args: Any, **more: Any) -> Any:
        found = self.inner(*args, **more)
        found.logits = found.logits * 2
        return found


def test_the_model_is_left_as_it_was() -> None:
    model = family("llama")
    flags = [(m.training, getattr(m, "gradient_checkpointing", None)) for m in model.modules()]
    outcome(model, random_rows(4, seed=1), "shared", checkpointing=True)
    assert model.config._attn_implementation == "sdpa"
    assert [(m.training, getattr(m, "gradient_checkpointing", None)) for m in model.eval().modules()] == [
        (False, f) for _, f in flags
    ]
    assert not any("forward" in vars(m) for m in model.modules())


@pytest.mark.parametrize("make", [lambda: family("qwen3"), opt], ids=["qwen3", "functional dropout"])
@pytest.mark.parametrize("path", ["padded", "shared"])
def test_checkpoints_change_no_bit(make: Callable[[], Any], path: Path) -> None:
    model, rows = make(), random_rows(9, seed=4)
    plain = outcome(model, rows, path)
    again = outcome(model, rows, path, checkpointing=True)
    assert torch.equal(plain[0], again[0])
    assert all(torch.equal(value, again[1][name]) for name, value in plain[1].items())


@pytest.mark.parametrize("path", ["padded", "packed", "shared"])
def test_bf16_is_near_fp32(path: Path) -> None:
    """bf16 keeps 8 bits: products of width 16 over 2 layers are off by a few thousandths of their size."""
    model, rows = family("qwen2"), random_rows(9, seed=5)
    exact, rough = outcome(model, rows, "padded"), outcome(model, rows, path, precision="bf16")
    assert rough[0].dtype == torch.float32
    error_N = (exact[0] - rough[0]).abs()
    assert 1e-4 < float(error_N.mean()) < 0.02 and float(error_N.max()) < 0.15
    for name, value in exact[1].items():
        if float(value.norm()) > 1e-3:
            cosine = nn.functional.cosine_similarity(value.flatten(), rough[1][name].flatten(), dim=0)
            assert float(cosine) > 0.99, name
