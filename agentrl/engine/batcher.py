"""Continuous batching without threads: a `step` feeds what fits and samples every row that is ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from agentrl.engine.admission import Admission
from agentrl.engine.feed import compose
from agentrl.engine.forward import Served
from agentrl.engine.protocol import Chunk
from agentrl.engine.requests import Answer, Answers, Request
from agentrl.engine.rows import Ints
from agentrl.engine.sampling import Rules, draw, uniform
from agentrl.episode import Floats
from agentrl.errors import EngineError

Finish = Literal["stop", "length"]
Decode = Callable[[Sequence[int]], str]


class Batcher:
    """The rows in flight and the model that feeds them; every method belongs to one thread."""

    def __init__(
        self, model: Any, served: Served, admission: Admission, decode: Decode | None, *, stream: bool
    ) -> None:
        self.model, self.served, self.admission = model, served, admission
        self.decode, self.stream = decode, stream
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
        """Admit, feed one step's tokens, sample where all known tokens are fed."""
        self.steps += 1
        self.admission.admit(self.steps)
        rows, forward = self.admission.rows, self.served.forward()
        if not len(rows.live):
            return []
        feed = compose(rows, budget=forward.budget, turn=self.steps, call_cost=forward.call_cost)
        logits = forward.logits(feed, self.admission.pool)
        rows.filled[feed.taken] += feed.counts
        return self._accept(feed.sampled, self._draw(feed.sampled, logits)) if len(feed.sampled) else []

    def _draw(self, sampled: Ints, logits: Tensor) -> NDArray[np.float64]:
        """Draw a token for each sampled row: [4, S], the columns of `Drawn`."""
        rows = self.admission.rows
        padded = np.resize(sampled, len(logits))  # a step's shape is the forward pass's
        packed = self._to_device(np.stack([rows.seed[padded], rows.filled[padded]]))
        drawn = draw(logits, self._rules(padded), uniform(packed[0], packed[1]))
        stacked = [x.double() for x in (drawn.ids, drawn.logp, drawn.untempered, drawn.entropy)]
        values: NDArray[np.float64] = torch.stack(stacked).cpu().numpy()  # one transfer a step
        return values[:, : len(sampled)]

    def _rules(self, live: Ints) -> Rules:
        rows = self.admission.rows
        temperature, top_p, top_k = rows.temperature[live], rows.top_p[live], rows.top_k[live]
        return Rules(
            temperature=self._to_device(temperature),
            top_p=self._to_device(top_p),
            top_k=self._to_device(top_k),
            plain=bool(((temperature == 1) & (top_p == 1) & (top_k == 0)).all()),
        )

    def _accept(self, live: Ints, values: NDArray[np.float64]) -> Answers:
        rows = self.admission.rows
        ids, place = values[0].astype(np.int64), rows.known[live]
        sound: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(values[1:]))
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
            self.admission.pool.wipe(row)
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
