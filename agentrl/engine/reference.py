"""The forward pass through a model's own modules: the path for what `Network` does not know."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from agentrl.engine.feed import Feed, Span
from agentrl.engine.kv import KVPool

CALL_COST = 1 << 16
"""A pass through all modules for rows apart costs far more than the keys that it saves."""


class _Pass(NamedTuple):
    """Where one pass over B rows of Q tokens writes and what it reads."""

    pool: KVPool
    rows: slice
    length: int
    places: Tensor


class Reference:
    """Calls the model itself, with keys and values in a pool.

    Args:
        model: Any causal language model of Hugging Face whose layers attend to all or to the latest keys.
        exact: One token of one row at a time, over exactly the keys that it sees. Nothing else enters its
            arithmetic, so it cannot depend on company or history; it is slow. False: neighbouring rows
            sample together, a prompt's tokens share a pass.
    """

    def __init__(self, model: Any, *, exact: bool) -> None:
        self.exact, self.budget = exact, 32 if exact else 512
        self.call_cost = CALL_COST
        self._model, self._device, self._dtype = model, model.device, model.dtype
        self._pass: _Pass | None = None
        layers = model.config.num_hidden_layers
        self._cache = Cache(layers=[_PoolLayer(self, i) for i in range(layers)])

    @torch.inference_mode()
    def logits(self, feed: Feed, pool: KVPool) -> Tensor:
        """Give the logits after each of `feed.last`, [S, V]."""
        ends: dict[int, Tensor] = {}
        for span in self._spans(feed):
            logits = self._forward(feed, span, pool)
            tokens = [span.end - 1] if span.one_row else range(span.begin, span.end)
            ends.update(zip(tokens, logits, strict=True))
        vocabulary = self._model.config.vocab_size
        empty = torch.zeros((0, vocabulary), dtype=self._dtype, device=self._device)
        return torch.stack([ends[i] for i in feed.last.tolist()]) if len(feed.last) else empty

    def _spans(self, feed: Feed) -> list[Span]:
        if not self.exact:
            return feed.spans
        tokens = zip(feed.rows.tolist(), feed.positions.tolist(), strict=True)
        return [Span(i, i + 1, row, True, position + 1) for i, (row, position) in enumerate(tokens)]

    def _forward(self, feed: Feed, span: Span, pool: KVPool) -> Tensor:
        """One pass; the logits after the last column, [B, V]."""
        part = slice(span.begin, span.end)
        shape = (1, -1) if span.one_row else (-1, 1)
        ids, rows, positions = (
            torch.from_numpy(x[part]).to(self._device) for x in (feed.ids, feed.rows, feed.positions)
        )
        count = 1 if span.one_row else span.end - span.begin
        places = pool.places(rows, positions)
        self._pass = _Pass(pool, slice(span.row, span.row + count), span.length, places)
        positions = positions.view(shape)
        out = self._model(
            input_ids=ids.view(shape),
            attention_mask=self._masks(positions, span.length),
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    def _masks(self, positions: Tensor, length: int) -> Tensor | dict[str, Tensor]:
        config = self._model.config
        window = getattr(config, "sliding_window", None)
        full = self._mask(positions, length, None)
        if kinds := set(getattr(config, "layer_types", None) or ()):
            if kinds == {"full_attention"}:
                return full
            return {"full_attention": full, "sliding_attention": self._mask(positions, length, window)}
        return self._mask(positions, length, window)

    def _mask(self, positions: Tensor, length: int, window: int | None) -> Tensor:
        keys = torch.arange(length, device=self._device)
        hidden = keys > positions[:, None, :, None]
        if window is not None:
            hidden |= keys <= positions[:, None, :, None] - window
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(hidden, -torch.inf)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values [B, heads, Q, head_dim] and give all that the rows can see."""
        assert self._pass is not None, "a forward pass without a feed"
        pool, rows, length, places = self._pass
        pool.write(layer, places, torch.cat((keys, values), 1).transpose(1, 2))
        return pool.keys[layer][rows, :, :length], pool.values[layer][rows, :, :length]

    @property
    def length(self) -> int:
        """Keys that the pass under way reads."""
        return 0 if self._pass is None else self._pass.length


class _PoolLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer's window on a pool, in the shape that Hugging Face attention asks for."""

    def __init__(self, reference: Reference, index: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reference, self._index = reference, index

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        return self._reference.write(self._index, key_states, value_states)

    def get_seq_length(self) -> int:
        return self._reference.length
