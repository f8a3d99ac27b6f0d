"""What is drawn against the probabilities that it should be drawn with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentrl.engine import sampling
from agentrl.engine.sampling import Drawn, Rules, draw, signed64, truncated, uniform

DRAWS = 40_000
LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -1.5, -2.0, -2.5, -3.0, -9.0])


def rules(rows: int, temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> Rules:
    return Rules(
        temperature=torch.full((rows,), temperature),
        top_p=torch.full((rows,), top_p),
        top_k=torch.full((rows,), top_k),
        plain=temperature == 1 and top_p == 1 and top_k == 0,
    )


def drawn(rows: int, setting: Rules) -> Drawn:
    """Draw as an engine does: each row another request seed, at one position."""
    numbers = uniform(torch.arange(rows), torch.full((rows,), 17))
    return draw(LOGITS.expand(rows, -1), setting, numbers)


def by_hand(temperature: float, top_p: float, top_k: int) -> list[float]:
    """The distribution as it is defined, in plain Python."""
    weights = [math.exp(x / temperature) for x in LOGITS.tolist()]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    kept = order[: top_k or len(order)]
    mass, total, nucleus = 0.0, sum(weights[i] for i in kept), []
    for i in kept:
        if mass < top_p * total:
            nucleus.append(i)
        mass += weights[i]
    return [
        weights[i] / sum(weights[j] for j in nucleus) if i in nucleus else 0.0 for i in range(len(weights))
    ]


@pytest.mark.parametrize(
    ("temperature", "top_p", "top_k"),
    [
        (1.0, 1.0, 0),
        (0.6, 1.0, 0),
        (2.0, 1.0, 0),
        (1.0, 0.8, 0),
        (1.0, 1.0, 4),
        (1.4, 0.7, 6),
        (1.0, 0.01, 0),
    ],
)
def test_goodness_of_fit(temperature: float, top_p: float, top_k: int) -> None:
    got = drawn(DRAWS, rules(DRAWS, temperature, top_p, top_k))
    expected = torch.tensor(by_hand(temperature, top_p, top_k))
    counts = torch.bincount(got.ids, minlength=len(LOGITS))
    assert not counts[expected == 0].any()
    torch.testing.assert_close(got.logp, expected.log()[got.ids])
    torch.testing.assert_close(got.untempered, LOGITS.log_softmax(-1)[got.ids])
    some = expected > 0
    chi2 = ((counts - DRAWS * expected)[some] ** 2 / (DRAWS * expected[some])).sum().item()
    freedom = int(some.sum()) - 1
    # Wilson-Hilferty: (chi2 / k) ** (1/3) is nearly normal; 3.1 deviations are a chance of 1 in 1000.
    limit = freedom * (1 - 2 / (9 * freedom) + 3.1 * math.sqrt(2 / (9 * freedom))) ** 3 if freedom else 1e-9
    assert chi2 <= limit


def test_rows_with_different_rules_share_a_batch() -> None:
    mixed = Rules(
        temperature=torch.tensor([1.0, 0.0, 0.5, 1.0]),
        top_p=torch.tensor([1.0, 1.0, 0.9, 1.0]),
        top_k=torch.tensor([0, 0, 0, 2]),
        plain=False,
    )
    numbers = uniform(torch.arange(4), torch.arange(4))
    got = draw(LOGITS.expand(4, -1), mixed, numbers)
    for i in range(4):
        alone = rules(1, float(mixed.temperature[i]), float(mixed.top_p[i]), int(mixed.top_k[i]))
        want = draw(LOGITS[None], alone, numbers[i : i + 1])
        assert got.ids[i] == want.ids[0]
        torch.testing.assert_close(got.logp[i], want.logp[0])
    assert got.ids[1] == 0 and got.logp[1] == 0


def test_ties_keep_exactly_top_k() -> None:
    kept = truncated(torch.zeros(1, 9), torch.tensor([4]), torch.ones(1))
    assert torch.isfinite(kept).sum() == 4


def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.full((1000, 5), -torch.inf)
    logits[:, 2], logits[:, 3] = 0.0, 1.0
    got = draw(logits, rules(1000), uniform(torch.arange(1000), torch.zeros(1000, dtype=torch.long)))
    assert set(got.ids.tolist()) == {2, 3} and torch.isfinite(got.entropy).all()


def test_uniform_numbers_are_spread_and_independent() -> None:
    seeds, positions = torch.meshgrid(torch.arange(200), torch.arange(200), indexing="ij")
    numbers = uniform(seeds.reshape(-1), positions.reshape(-1)).reshape(200, 200)
    counts = torch.histc(numbers.float(), bins=50, min=0, max=1)
    assert ((counts - 800) ** 2 / 800).sum() < 86  # 49 degrees of freedom, 1 in 1000
    for a, b in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
        correlation = np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1]
        assert abs(correlation) < 3.3 / math.sqrt(a.numel())
    assert len(np.unique(numbers.numpy())) == numbers.numel()


@given(seed=st.integers(-(2**80), 2**80), position=st.integers(0, 2**31))
def test_uniform_numbers_follow_from_seed_and_position(seed: int, position: int) -> None:
    """The same in a batch as alone, never 0 or 1, and equal to a plain Python splitmix64."""

    def mixed(x: int) -> int:
        x &= 2**64 - 1
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        return x ^ (x >> 31)

    want = mixed(mixed(seed) + (position + 1) * 0x9E3779B97F4A7C15) >> 16
    got = uniform(torch.tensor([1, signed64(seed)]), torch.tensor([2, position]))[1].item()
    assert got == (want + 0.5) / 2**48 and 0 < got < 1


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("count", [5, 16, 33])
def test_rows_in_blocks_get_the_same_bits(count: int, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(count, 501, generator=torch.Generator().manual_seed(count)) * 3
    temperature, top_k = torch.ones(count), torch.zeros(count, dtype=torch.int64)
    if not plain:
        temperature[::2], top_k[::3], temperature[-1] = 0.7, 20, 0.0
    setting = Rules(temperature=temperature, top_p=torch.ones(count), top_k=top_k, plain=plain)
    where = torch.linspace(0.01, 0.99, count, dtype=torch.float64)
    whole = draw(logits, setting, where)
    monkeypatch.setitem(sampling.BLOCK, "cpu", 1)
    cut = draw(logits, setting, where)
    for name in ("ids", "logp", "untempered", "entropy"):
        assert torch.equal(getattr(whole, name), getattr(cut, name)), name
