"""Continuous batching without threads: one call of `step` feeds and samples every live row once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agentrl.engine.admission import Admission, rounded_up
from agentrl.engine.kv import Shape, Step
from agentrl.engine.protocol import Chunk
from agentrl.engine.requests import Answer, Answers, Request
from agentrl.engine.rows import Ints
from agentrl.engine.sampling import Drawn, Rules, draw, uniform
from agentrl.episode import Floats
from agentrl.errors import EngineError

Finish = Literal["stop", "length"]
Decode = Callable[[Sequence[int]], str]

PREFILL_TOKENS = 24
"""From so many unfed tokens on, a pass of its own is cheaper than one token a step beside the others."""
PREFILL_LONGEST = 8
"""A single row with so many unfed tokens gets the pass, too."""
CHUNK = 2048
"""Most tokens of one row in one prefill pass, so that sampling rows do not wait long for a long prompt."""
PASS_TOKENS = 16384
"""Most tokens, padding included, in one prefill pass."""


def shape_of(model: Any) -> Shape:
    """What the model's keys and values look like."""
    config = model.config
    heads = config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        heads=getattr(config, "num_key_value_heads", None) or heads,
        head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
        dtype=model.dtype,
        device=model.device,
    )


class Batcher:
    """The rows in flight and the model that feeds them; every method belongs to one thread."""

    def __init__(self, model: Any, admission: Admission, decode: Decode | None, *, stream: bool) -> None:
        self.model, self.admission, self.decode, self.stream = model, admission, decode, stream
        self.version = 0
        self.steps = 0
        self.sampled_tokens = 0

    @property
    def busy(self) -> bool:
        """Whether a step has anything to do."""
        return bool(self.admission.waiting) or len(self.admission.rows.live) > 0

    def submit(self, request: Request) -> None:
        """Queue a request."""
        if not request.cancelled:
            self.admission.waiting.append(request)

    def cancel(self, request: Request) -> None:
        """Forget a request; its row keeps what was computed."""
        request.cancelled = True
        if request.row is not None:
            self.admission.rows.release(request.row, self.steps, keep=True)
        elif request in self.admission.waiting:
            self.admission.waiting.remove(request)

    def open_requests(self) -> list[Request]:
        """All that were submitted and are not finished."""
        return [*self.admission.waiting, *(r for r in self.admission.rows.requests if r is not None)]

    @torch.inference_mode()
    def step(self) -> Answers:
        """Admit, prefill, feed one token to each live row, sample where all known tokens are fed."""
        self.steps += 1
        self.admission.admit(self.steps)
        self._prefill()
        live = self.admission.rows.live
        return self._accept(live, self._sample(live)) if len(live) else []

    # ---------------------------------------------------------------- prefill

    def _prefill(self) -> None:
        rows = self.admission.rows
        live = rows.live
        missing = rows.known[live] - rows.filled[live] - 1
        if missing.sum() < PREFILL_TOKENS and not (missing >= PREFILL_LONGEST).any():
            return
        order = np.argsort(-missing, kind="stable")
        order = order[missing[order] > 0]
        for batch in _batches(missing[order].clip(max=CHUNK)):
            chosen = order[batch]
            self._prefill_batch(live[chosen], missing[chosen].clip(max=CHUNK))

    def _prefill_batch(self, chosen: Ints, counts: Ints) -> None:
        rows, filled, width = self.admission.rows, self.admission.rows.filled[chosen], int(counts.max())
        offsets = np.arange(width)
        valid = offsets < counts[:, None]
        positions = filled[:, None] + offsets
        places = positions.clip(max=rows.ids.shape[1] - 1)
        ids = np.where(valid, rows.ids[chosen[:, None], places], 0)
        row, column = np.nonzero(valid)
        packed = self._to_device(np.stack([chosen[row], positions[row, column], row * width + column]))
        step = Step(
            rows=self._to_device(chosen),
            length=self._length(int((filled + counts).max())),
            write_rows=packed[0],
            write_positions=packed[1],
            source=packed[2],
        )
        self._forward(ids, positions, step)
        rows.filled[chosen] += counts

    # ----------------------------------------------------------------- decode

    def _sample(self, live: Ints) -> Drawn:
        rows = self.admission.rows
        positions = rows.filled[live]
        contiguous = int(live[-1]) == len(live) - 1
        packed = self._to_device(np.stack([live, positions, rows.seed[live]]))
        step = Step(
            rows=None if contiguous else packed[0],
            length=self._length(int(positions.max()) + 1),
            write_rows=packed[0],
            write_positions=packed[1],
            source=None,
        )
        logits = self._forward(rows.ids[live, positions][:, None], positions[:, None], step)
        return draw(logits, self._rules(live), uniform(packed[2], packed[1] + 1))

    def _rules(self, live: Ints) -> Rules:
        rows = self.admission.rows
        temperature, top_p, top_k = rows.temperature[live], rows.top_p[live], rows.top_k[live]
        return Rules(
            temperature=self._to_device(temperature),
            top_p=self._to_device(top_p),
            top_k=self._to_device(top_k),
            plain=bool(((temperature == 1) & (top_p == 1) & (top_k == 0)).all()),
        )

    def _accept(self, live: Ints, drawn: Drawn) -> Answers:
        rows = self.admission.rows
        stacked = [x.double() for x in (drawn.ids, drawn.logp, drawn.untempered, drawn.entropy)]
        values = torch.stack(stacked).cpu().numpy()  # one transfer a step
        rows.filled[live] += 1
        new = rows.filled[live] == rows.known[live]
        live, values = live[new], values[:, new]
        ids, place = values[0].astype(np.int64), rows.known[live]
        sound = np.isfinite(values[1:]).all(0)
        rows.ids[live, place] = ids
        rows.logp[live, place], rows.untempered[live, place], rows.entropy[live, place] = values[1:]
        rows.version[live, place] = self.version
        rows.known[live] += 1
        self.sampled_tokens += len(live)
        stopped = (rows.stops[live] == ids[:, None]).any(1)
        for i in np.flatnonzero(rows.strings[live]):
            stopped[i] |= self._completes_string(int(live[i]))
        ended = stopped | (rows.known[live] >= rows.limit[live])
        shown = np.arange(len(live)) if self.stream else np.flatnonzero(ended | ~sound)
        return [self._answer(int(live[i]), bool(stopped[i]), bool(ended[i]), bool(sound[i])) for i in shown]

    def _answer(self, row: int, stopped: bool, ended: bool, sound: bool) -> tuple[Request, Answer]:
        rows = self.admission.rows
        request = rows.requests[row]
        assert request is not None, "a live row without a request"
        if not sound:
            rows.release(row, self.steps, keep=False)
            return request, EngineError(f"a log-prob is not finite under weight version {self.version}")
        begin, end = int(rows.start[row]) + request.sent, int(rows.known[row])
        part = slice(begin, end)
        request.sent += end - begin
        finish: Finish | None = ("stop" if stopped else "length") if ended else None
        chunk = Chunk(ids=rows.ids[row, part].copy(), columns=rows.columns(row, part), finish=finish)
        if ended:
            rows.release(row, self.steps, keep=True)
        return request, chunk

    def _completes_string(self, row: int) -> bool:
        rows = self.admission.rows
        request = rows.requests[row]
        assert request is not None and self.decode is not None, "refused when it was asked for"
        longest = max(map(len, request.sampling.stop_strings))
        # Long completions are searched near their end only; a token rarely has less than a quarter character.
        begin = max(int(rows.start[row]), int(rows.known[row]) - 4 * longest - 32)
        text = self.decode(rows.ids[row, begin : rows.known[row]].tolist())
        return any(stop in text for stop in request.sampling.stop_strings)

    # ------------------------------------------------------------------ model

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.admission.pool.shape.device)

    def _length(self, need: int) -> int:
        # Multiples of eight suit the aligned loads of attention kernels.
        return min(rounded_up(need), self.admission.pool.positions)

    def _forward(self, ids: NDArray[Any], positions: Ints, step: Step) -> Tensor:
        """Feed ids [B, Q] at positions [B, Q]; give the logits after each row's last column, [B, V]."""
        pool = self.admission.pool
        packed = self._to_device(np.stack([ids, positions]))
        keys = torch.arange(step.length, device=pool.shape.device)
        hidden = keys > packed[1][:, None, :, None]
        mask = torch.zeros(hidden.shape, dtype=pool.shape.dtype, device=pool.shape.device)
        pool.step = step
        out = self.model(
            input_ids=packed[0],
            attention_mask=mask.masked_fill_(hidden, -torch.inf),
            position_ids=packed[1],
            past_key_values=pool.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits

    @torch.inference_mode()
    def score(self, ids: NDArray[Any]) -> Floats:
        """Log-prob of each token after the first, in one pass without the pool."""
        tokens = self._to_device(ids.astype(np.int64))
        hidden = self.model.base_model(input_ids=tokens[None], use_cache=False).last_hidden_state[0, :-1]
        head = self.model.get_output_embeddings()
        pieces = [
            head(h).float().log_softmax(-1).gather(-1, t[:, None])[:, 0]
            for h, t in zip(torch.split(hidden, 512), torch.split(tokens[1:], 512), strict=True)
        ]
        scores: Floats = torch.cat(pieces).cpu().numpy() if pieces else np.zeros(0, dtype=np.float32)
        return scores

    def load(self, tensors: Mapping[str, Tensor], version: int) -> None:
        """Take checked weights; live rows are computed again under them."""
        targets = dict(self.model.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, tensor in tensors.items():
                targets[name].copy_(tensor)
        with torch.inference_mode():
            self.admission.forget()
        self.version = version


def _batches(counts: Ints) -> list[slice]:
    """Cut rows, longest first, so that padding stays below half and a pass below PASS_TOKENS.

    >>> _batches(np.array([40, 30, 6, 5]))
    [slice(0, 2, None), slice(2, 4, None)]
    """
    cuts, begin = [], 0
    for i, count in enumerate(counts):
        widest = counts[begin]
        if i > begin and (2 * count < widest or (i - begin + 1) * widest > PASS_TOKENS):
            cuts.append(slice(begin, i))
            begin = i
    return [*cuts, slice(begin, len(counts))] if len(counts) else []
