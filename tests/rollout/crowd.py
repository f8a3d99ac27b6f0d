"""Many rows at once, watched from inside the engine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from agentrl.engine.feed import Feed
from agentrl.engine.kv import KVPool
from agentrl.engine.network import Network

EXACT = "donot_use_mm_for_euclid_dist"


class Crowd:
    """Watches a model with many rows: reads from its cached values which ids each draw was made behind.

    In the first layer a value is a function of the token alone. So what a row really holds says which tokens
    it was filled with, whichever way they came there: fed, copied from another row, or moved.

    A bias that follows from the last token alone makes the policy write `chain` now and then.
    """

    def __init__(self, model: Any, chain: Sequence[int], stop: int) -> None:
        self._seen: list[Tensor] = []
        size = model.config.vocab_size
        self.bias_VV = torch.zeros(size, size)
        self.bias_VV[:, stop] = 3.0
        for before, after in itertools.pairwise(chain):
            self.bias_VV[before, after] = 8.0
        layer = model.model.layers[0]
        with torch.inference_mode():
            words = layer.input_layernorm(model.get_input_embeddings().weight)
            self._values_VD = layer.self_attn.v_proj(words)

    @contextmanager
    def watching(self, model: Any, *, packed: bool) -> Iterator[None]:
        """Watch the packed pass, which calls no module, or the modules; the engine must be made before."""
        if packed:
            with pytest.MonkeyPatch.context() as watched:
                watched.setattr(Network, "logits", self._packed_logits(Network.logits))
                yield
            return
        hook = model.register_forward_hook(self._look, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def _packed_logits(self, inner: Any) -> Any:
        def logits(network: Network, feed: Feed, pool: KVPool) -> Tensor:
            out: Tensor = inner(network, feed, pool)
            out[: len(feed.sampled)] += self.bias_VV[torch.from_numpy(feed.ids[feed.last])]
            self._note(pool, feed.sampled.tolist(), feed.positions[feed.last].tolist())
            return out

        return logits

    def _look(self, model: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        out.logits[:, -1] += self.bias_VV[kwargs["input_ids"][:, -1]]
        under_way = kwargs["past_key_values"].layers[0]._reference._pass
        rows = range(under_way.rows.start, under_way.rows.stop)
        self._note(under_way.pool, rows, kwargs["position_ids"][:, -1].tolist())

    def _note(self, pool: KVPool, rows: Sequence[int], positions: Sequence[int]) -> None:
        """Keep what each of the rows holds up to a position."""
        for row, position in zip(rows, positions, strict=True):
            held = pool.values[0][row, :, : position + 1]
            self._seen.append(held.transpose(0, 1).flatten(1).clone())

    def streams(self) -> set[tuple[int, ...]]:
        """The ids that stood before the model whenever it gave the logits of one more token."""
        found = set()
        for values in self._seen:
            distance, ids = torch.cdist(values, self._values_VD, compute_mode=EXACT).min(-1)
            assert float(distance.max()) < 1e-4
            found.add(tuple(ids.tolist()))
        return found
