"""Trials of a packed forward pass on the machine and the weights at hand, in a few small steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agentrl.engine.feed import compose
from agentrl.engine.kv import KVPool, shape_of
from agentrl.engine.network import Network
from agentrl.engine.reference import Reference
from agentrl.engine.rows import LIVE, Ints, Rows

LENGTH = 24
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Largest difference of log-probs between two orders of the same sums; a wrong formula is far beyond it."""
HALF_TOLERANCE = 0.5


def agrees(network: Network, reference: Reference, model: Any, max_context: int) -> bool:
    """Whether both passes give the same log-probs after a random prompt, up to rounding."""
    ids = _prompt(model, max_context)
    scores = []
    for forward in (network, reference):
        stage = _Stage(model, rows=1, positions=64)
        stage.begin(0, ids)
        scores.append(stage.feed(forward)[0].float().log_softmax(-1))
    return bool((scores[0] - scores[1]).abs().max() <= TOLERANCE.get(model.dtype, HALF_TOLERANCE))


def repeats(network: Network, model: Any, max_context: int) -> bool:
    """Whether a sequence gets the same bits token by token and alone as in one piece in full company."""
    ids = _prompt(model, max_context)
    alone = _Stage(model, rows=1, positions=32)
    alone.begin(0, ids[: len(ids) // 2])
    alone.feed(network)
    for length in range(len(ids) // 2 + 1, len(ids) + 1):
        alone.begin(0, ids[:length])
        want = alone.feed(network)[0]
    crowd = _Stage(model, rows=12, positions=512)
    for row in range(12):
        crowd.begin(row, ids if row == 7 else np.roll(ids, row)[: 1 + (5 * row) % len(ids)])
    got = crowd.feed(network)
    place = int(np.flatnonzero(crowd.sampled == 7)[0])
    same = torch.equal(alone.pairs(0, len(ids)), crowd.pairs(7, len(ids)))
    return same and torch.equal(want, got[place])


class _Stage:
    """A pool with rows on it, without requests."""

    def __init__(self, model: Any, *, rows: int, positions: int) -> None:
        self.pool = KVPool(shape_of(model), rows=rows, positions=positions)
        self.rows = Rows(rows, positions)
        self.sampled: Ints = np.zeros(0, dtype=np.int64)

    def begin(self, row: int, ids: Ints) -> None:
        self.rows.ids[row, : len(ids)] = ids
        self.rows.known[row], self.rows.state[row] = len(ids), LIVE

    def feed(self, forward: Network | Reference) -> Tensor:
        feed = compose(self.rows, budget=1024, turn=0, call_cost=forward.call_cost)
        self.rows.filled[feed.taken] += feed.counts
        self.sampled = feed.sampled
        return forward.logits(feed, self.pool)

    def pairs(self, row: int, length: int) -> Tensor:
        return torch.stack([x[row, :, :length] for x in (*self.pool.keys, *self.pool.values)])


def _prompt(model: Any, max_context: int) -> Ints:
    rng = np.random.default_rng(0)
    return rng.integers(0, model.config.vocab_size, min(LENGTH, max_context), dtype=np.int64)
