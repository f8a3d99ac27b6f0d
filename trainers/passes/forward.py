"""Log-probabilities of trained tokens, the output head only where it is needed.

Dropout is off: the ratio of new to old probability must compare like with like.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from agentrl.errors import ConfigError
from agentrl.trainers.batch import Row
from agentrl.trainers.passes.attention import can_pack, running
from agentrl.trainers.passes.head import CHUNK, LARGE_CHUNK, head_shape, output_head, token_scores
from agentrl.trainers.passes.planning import Cost, Pass, Path, Units, packed_pass, padded_pass, plan_passes
from agentrl.trainers.passes.rotations import forget_length, steady_context

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a pass says of the trained tokens of some rows, in the rows' order."""

    logp_N: Tensor
    entropy_N: Tensor | None = None
    """Entropy in nats of the distribution; None where nobody asked."""


class Forward:
    """Runs a causal language model of Hugging Face over rows.

    Args:
        model: Put into evaluation mode.
        max_tokens: Most tokens of one pass; see `plan_passes`.
        precision: `bf16` runs passes under autocast; weights stay as they are.
        path: How rows go through the model; `auto` takes what is cheaper and what the model can do.
        checkpointing: Make the activations of a layer anew in the backward pass: less memory, more time.

    Raises:
        ConfigError: The model cannot run packed, or does to its logits what is not known here.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        max_tokens: int = 4096,
        precision: Precision = "fp32",
        path: Path = "auto",
        checkpointing: bool = False,
    ) -> None:
        self.model, self.max_tokens, self.precision = model, max_tokens, precision
        self.compute = None if precision == "fp32" else torch.bfloat16
        self.checkpointing = checkpointing
        self.model.eval()
        self.head = output_head(model)
        self.cost = Cost.of(model)
        self.steady_context = steady_context(model)
        self.path = self._checked(path)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.head.weight.dtype

    def passes(self, rows: Sequence[Row], units: Units | None = None) -> list[Pass]:
        """Cut rows into passes; `units` stay together (none: rows may be cut anywhere).

        A row beyond `steady_context` would change the rows beside it: its unit has a pass of its own.
        """
        units = [[i] for i in range(len(rows))] if units is None else units

        def is_long(unit: Sequence[int]) -> bool:
            return any(len(rows[i]) - 1 > self.steady_context for i in unit)

        short = [unit for unit in units if not is_long(unit)]
        passes = plan_passes(rows, short, max_tokens=self.max_tokens, path=self.path, cost=self.cost)
        return passes + [padded_pass(rows, list(unit)) for unit in units if is_long(unit)]

    def fits(self, one: Pass) -> bool:
        """Whether a pass can be run as a whole; a single row always is."""
        small = one.num_tokens <= self.max_tokens and one.longest <= self.steady_context
        return small or len(one.rows) == 1

    def __call__(self, rows: Sequence[Row], *, temperature: float = 1.0, entropy: bool = False) -> Scores:
        """Score the trained tokens of `rows`, flat, in the order of the rows.

        Args:
            rows: Each with at least one trained token.
            temperature: Of the distribution whose log-probabilities are given.
            entropy: Whether to give the entropies too.
        """
        if not rows:
            empty_N = torch.zeros(0, device=self.device)
            return Scores(empty_N, empty_N if entropy else None)
        passes = self.passes(rows)
        parts = [self.run(one, temperature=temperature, entropy=entropy) for one in passes]
        back = _restore_order(rows, [one.rows for one in passes]).to(self.device)
        logp_N = torch.cat([p.logp_N for p in parts])[back]
        if not entropy:
            return Scores(logp_N)
        return Scores(logp_N, torch.cat([p.entropy_N for p in parts if p.entropy_N is not None])[back])

    def rounding(self, rows: Sequence[Row], dtype: torch.dtype, *, temperature: float = 1.0) -> Tensor:
        """How far log-probs of a type of 16 bits are from those of float32, of each trained token, [N]."""
        found = []
        for compute in (None, dtype):
            forward = copy.copy(self)
            forward.compute = compute
            with torch.no_grad():
                found.append(forward(rows, temperature=temperature).logp_N)
        return (found[0] - found[1]).abs()

    def run(self, one: Pass, *, temperature: float = 1.0, entropy: bool = False) -> Scores:
        """Score the trained tokens of one pass, in the order of its rows."""
        hidden_UD = self._hidden(one)
        shape = head_shape(
            self.model.config,
            temperature=temperature,
            chunk=CHUNK.get(self.device.type, LARGE_CHUNK),
            compute=self.compute,
        )
        target_U = one.target_U.to(self.device)
        logp_N, entropy_N = token_scores(hidden_UD, self.head, target_U, shape=shape, entropy=entropy)
        if one.expand_N is not None:
            expand_N = one.expand_N.to(self.device)
            logp_N = logp_N.index_select(0, expand_N)
            entropy_N = None if entropy_N is None else entropy_N.index_select(0, expand_N)
        return Scores(logp_N, entropy_N)

    def _hidden(self, one: Pass) -> Tensor:
        """Give the last hidden states at the places that are scored."""
        model: Any = self.model
        more: dict[str, Any] = {}
        if one.tiles is not None:
            assert one.positions_BT is not None
            more = {"tiles": one.tiles.to(self.device), "position_ids": one.positions_BT.to(self.device)}
        if self.steady_context < math.inf:
            forget_length(model)
        checkpointed = self.checkpointing and torch.is_grad_enabled()
        with running(model, tiled=one.tiles is not None, checkpointed=checkpointed), self._autocast():
            found = model.base_model(input_ids=one.ids_BT.to(self.device), use_cache=False, **more)
        hidden_BTD: Tensor = found.last_hidden_state
        return hidden_BTD.flatten(0, 1).index_select(0, one.scored_U.to(self.device))

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.compute is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)

    def _checked(self, path: Path) -> Path:
        """Try both ways on three short rows: a model that mixes tokens in its own way must not run packed."""
        self.path = "padded"
        if isinstance(self.head.weight, FakeTensor):
            return path if can_pack(self.model) else "padded"
        kind = type(self.model).__name__
        rows = _trial_rows(len(self.head.weight))
        wanted, self.compute = self.compute, None
        with torch.no_grad():
            padded = self.run(padded_pass(rows, [0, 1, 2])).logp_N
            if not _alike(padded, self._whole(rows)):
                raise ConfigError(
                    f"{kind} does something to its logits that is not known here: it cannot be trained"
                )
            same = can_pack(self.model) and _alike(
                padded, self.run(packed_pass(rows, [0, 1, 2], shared=True)).logp_N
            )
        self.compute = wanted
        if not same and path not in ("auto", "padded"):
            raise ConfigError(f"path={path!r}: {kind} does not run packed; use 'padded', or 'auto'")
        return path if same else "padded"

    def _whole(self, rows: Sequence[Row]) -> Tensor:
        """Score rows by the model's own logits."""
        model: Any = self.model
        found = []
        for row in rows:
            ids_T = torch.from_numpy(row.ids[:-1]).to(self.device)
            logp_TV = model(input_ids=ids_T[None], use_cache=False).logits[0].float().log_softmax(-1)
            found.append(logp_TV[torch.from_numpy(row.positions), torch.from_numpy(row.targets)])
        return torch.cat(found)


def _trial_rows(vocabulary: int) -> list[Row]:
    """Two rows with a common beginning and one without."""
    ids = (np.arange(1, 20) * 7919) % vocabulary
    streams = ids[:6], np.concatenate([ids[:3], ids[6:11]]), ids[11:16]
    return [Row(ids=stream, positions=np.arange(len(stream) - 1)) for stream in streams]


def _alike(one_N: Tensor, other_N: Tensor) -> bool:
    """Whether log-probs agree; weights that are no numbers are found later, by the loss."""
    return torch.allclose(one_N.float(), other_N.float(), rtol=1e-3, atol=1e-3, equal_nan=True)


def _restore_order(rows: Sequence[Row], pieces: Iterable[Sequence[int]]) -> Tensor:
    """Where each row's tokens stand when the pieces are put one behind the other."""
    order = np.array([i for piece in pieces for i in piece])
    counts = np.array([len(r.positions) for r in rows])
    begins = np.concatenate([[0], np.cumsum(counts[order])])
    place = np.empty(len(rows), dtype=np.int64)
    place[order] = begins[:-1]
    return torch.from_numpy(
        np.concatenate([np.arange(place[i], place[i] + counts[i]) for i in range(len(rows))])
    )
