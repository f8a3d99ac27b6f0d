"""Log-probabilities of trained tokens: rows of like length together, the output head where it is needed.

Rows are padded on the right and the attention is causal, so padding is never seen by a real token and no mask
is needed. Dropout is off: the ratio of new to old probability must compare like with like.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from agentrl.trainers.batch import Row

Precision = Literal["fp32", "bf16"]
SCALED_HEADS = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a pass says of the trained tokens of some rows, in the rows' order."""

    logp_N: Tensor
    entropy_N: Tensor | None = None
    """Entropy in nats of the distribution; None where nobody asked."""


def by_length(rows: Sequence[Row], *, max_tokens: int, max_padding: float = 0.15) -> list[list[int]]:
    """Cut rows into buckets of like length; gives indices.

    Args:
        rows: In any order.
        max_tokens: Most tokens of a bucket, padding included; a longer row stands alone.
        max_padding: Largest share of padding in a bucket of an eighth of `max_tokens` or more; in smaller
            ones padding costs less than another pass.

    >>> def row(length: int) -> Row:
    ...     return Row(ids=np.zeros(length, np.int64), positions=np.zeros(0, np.int64))
    >>> by_length([row(9), row(2), row(8)], max_tokens=20)
    [[0, 2], [1]]
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    buckets: list[list[int]] = []
    width = real = 0
    for index in order:
        padded = width * (len(buckets[-1]) + 1) if buckets else 0
        real += len(rows[index])
        wasteful = padded * 8 > max_tokens and real < (1 - max_padding) * padded
        if not buckets or padded > max_tokens or wasteful:
            buckets.append([])
            width = real = len(rows[index])
        buckets[-1].append(index)
    return buckets


class Forward:
    """Runs a causal language model of Hugging Face over rows."""

    def __init__(self, model: nn.Module, *, max_tokens: int = 4096, precision: Precision = "fp32") -> None:
        self.model, self.max_tokens, self.precision = model, max_tokens, precision
        self.model.eval()
        config: Any = getattr(model, "config", None)
        self._plain_head = not any(getattr(config, name, None) for name in SCALED_HEADS)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.model.parameters()).dtype

    def buckets(self, rows: Sequence[Row]) -> list[list[int]]:
        """Cut rows into what one pass takes."""
        return by_length(rows, max_tokens=self.max_tokens)

    def __call__(self, rows: Sequence[Row], *, temperature: float = 1.0, entropy: bool = False) -> Scores:
        """Score the trained tokens of `rows`, flat, in the order of the rows.

        Args:
            rows: Each with at least one trained token.
            temperature: Of the distribution whose log-probabilities are given.
            entropy: Whether to give the entropies too.
        """
        if not rows:
            return Scores(
                torch.zeros(0, device=self.device), torch.zeros(0, device=self.device) if entropy else None
            )
        buckets = self.buckets(rows)
        parts = [self._bucket([rows[i] for i in bucket], temperature, entropy) for bucket in buckets]
        if len(buckets) == 1 and buckets[0] == list(range(len(rows))):
            return parts[0]
        back = _restore_order(rows, buckets).to(self.device)
        logp_N = torch.cat([p.logp_N for p in parts])[back]
        return Scores(
            logp_N,
            torch.cat([p.entropy_N for p in parts if p.entropy_N is not None])[back] if entropy else None,
        )

    def _bucket(self, rows: Sequence[Row], temperature: float, entropy: bool) -> Scores:
        width = max(map(len, rows)) - 1
        ids_BT = np.zeros((len(rows), width), dtype=np.int64)
        for line, row in zip(ids_BT, rows, strict=True):
            line[: min(len(row), width)] = row.ids[:width]
        flat = np.concatenate([b * width + row.positions for b, row in enumerate(rows)])
        targets_N = torch.from_numpy(np.concatenate([row.targets for row in rows])).to(self.device)
        with self._autocast():
            logits_NV = self._logits(
                torch.from_numpy(ids_BT).to(self.device), torch.from_numpy(flat).to(self.device)
            )
        logits_NV = logits_NV.float() if logits_NV.dtype != torch.float64 else logits_NV
        if temperature != 1.0:
            logits_NV = logits_NV / temperature
        logp_N = -functional.cross_entropy(logits_NV, targets_N, reduction="none")
        return Scores(logp_N, _entropy(logits_NV) if entropy else None)

    def _logits(self, ids_BT: Tensor, flat_N: Tensor) -> Tensor:
        model: Any = self.model
        if not self._plain_head:
            logits_BTV: Tensor = model(input_ids=ids_BT, use_cache=False).logits
            return logits_BTV.flatten(0, 1)[flat_N]
        hidden_BTD: Tensor = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
        chosen: Tensor = model.get_output_embeddings()(hidden_BTD.flatten(0, 1).index_select(0, flat_N))
        return chosen

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def _entropy(logits_NV: Tensor) -> Tensor:
    logp_NV = logits_NV.log_softmax(-1)
    return -(logp_NV.exp() * logp_NV).sum(-1)


def _restore_order(rows: Sequence[Row], buckets: Sequence[Sequence[int]]) -> Tensor:
    order = np.array([i for bucket in buckets for i in bucket])
    counts = np.array([len(r.positions) for r in rows])
    begins = np.concatenate([[0], np.cumsum(counts[order])])
    place = np.empty(len(rows), dtype=np.int64)
    place[order] = begins[:-1]
    return torch.from_numpy(
        np.concatenate([np.arange(place[i], place[i] + counts[i]) for i in range(len(rows))])
    )
