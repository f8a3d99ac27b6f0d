"""Forward and backward over recorded rows: a plain padded Hugging Face loop, our packed pass, our shared one.

The rows are those of groups: a prompt in common, then a part of log-normal length that is trained.
All three take the gradient of the same loss; `difference` is how far apart the results are.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agentrl.trainers.batch import Row
from agentrl.trainers.passes.backward import backward
from agentrl.trainers.passes.planning import Path
from agentrl.trainers.passes.settings import UpdateSettings


def recorded_rows(
    *, groups: int, group_size: int, vocabulary: int, seed: int = 0, prompt: float = 200, rest: float = 60
) -> list[Row]:
    """Give rows of groups; `prompt` and `rest` are medians of log-normal lengths in tokens."""
    random = np.random.default_rng(seed)

    def draw(median: float, sigma: float) -> Any:
        return random.integers(0, vocabulary, 2 + int(median * random.lognormal(0, sigma)))

    rows = []
    for group in range(groups):
        start = draw(prompt, 0.3)
        for member in range(group_size):
            ids = np.concatenate([start, draw(rest, 0.8)])
            positions = np.arange(len(start) - 1, len(ids) - 1)
            rows.append(Row(ids=ids, positions=positions, episode=group * group_size + member))
    return rows


def padded_loop(model: Any, rows: Sequence[Row], *, batch: int) -> Tensor:
    """Add the gradient of the mean negative log-likelihood as a plain loop does; gives the loss."""
    count = sum(len(row.positions) for row in rows)
    total = torch.zeros(())
    for begin in range(0, len(rows), batch):
        members = rows[begin : begin + batch]
        width = max(map(len, members))
        ids_BT = torch.zeros(len(members), width, dtype=torch.int64)
        mask_BT, trained_BT = torch.zeros_like(ids_BT), torch.zeros(len(members), width - 1)
        for line, row in enumerate(members):
            ids_BT[line, : len(row)], mask_BT[line, : len(row)] = torch.from_numpy(row.ids), 1
            trained_BT[line, torch.from_numpy(row.positions)] = 1
        logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits[:, :-1]
        logp_BT = logits_BTV.log_softmax(-1).gather(2, ids_BT[:, 1:, None])[..., 0]
        loss = -(logp_BT * trained_BT).sum() / count
        torch.autograd.backward(loss)
        total += loss.detach()
    return total


def our_loop(model: Any, rows: Sequence[Row], *, path: Path) -> float:
    """Do the same by our passes."""
    count = sum(len(row.positions) for row in rows)
    forward = UpdateSettings(path=path).forward(model)
    return backward(forward, rows, lambda _, scores: -scores.logp_N.sum() / count)


def compare_passes(model: Any, rows: Sequence[Row], *, runs: int = 3, batch: int = 8) -> dict[str, Any]:
    """Time the three in turn, `runs` times; gives medians of seconds, and ratios of the others to ours."""
    ways: dict[str, Callable[[], Any]] = {
        "padded": lambda: padded_loop(model, rows, batch=batch),
        "packed": lambda: our_loop(model, rows, path="packed"),
        "ours": lambda: our_loop(model, rows, path="auto"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    gradients = {}
    for _ in range(runs):
        for name, run in ways.items():
            model.zero_grad(set_to_none=True)
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
            gradients[name] = torch.cat([p.grad.flatten() for p in model.parameters()])
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    scale = float(gradients["padded"].abs().max())
    return {
        "seconds": medians,
        "ratio": medians["padded"] / medians["ours"],
        "ratio_to_packed": medians["packed"] / medians["ours"],
        "tokens": sum(map(len, rows)),
        "difference": max(float((gradients["padded"] - g).abs().max()) for g in gradients.values()) / scale,
    }
