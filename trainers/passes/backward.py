"""Gradients of a loss over rows, pass by pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from agentrl.trainers.batch import Row
from agentrl.trainers.passes.forward import Forward, Scores
from agentrl.trainers.passes.planning import Pass, Units

Loss = Callable[[list[int], Scores], Tensor]
"""Gives a scalar from some rows, as indices, and their scores; the losses of all pieces are added up."""


def backward(
    forward: Forward,
    rows: Sequence[Row],
    loss: Loss,
    *,
    units: Units | None = None,
    temperature: float = 1.0,
    entropy: bool = False,
) -> float:
    """Add the gradient of a loss to the weights' own; gives the loss.

    `units` are rows whose loss must be taken together. One that does not fit into a pass is scored without
    gradient first; the gradient of its loss by its scores is then handed to passes that fit. The loss itself
    is never cut.
    """
    total = torch.zeros((), device=forward.device)
    for one in forward.passes(rows, units):
        if forward.fits(one):
            value = loss(one.rows, forward.run(one, temperature=temperature, entropy=entropy))
            torch.autograd.backward(value)
        else:
            value = _in_parts(forward, rows, one, loss, temperature=temperature, entropy=entropy)
        total += value.detach()
    return float(total)


def _in_parts(
    forward: Forward, rows: Sequence[Row], whole: Pass, loss: Loss, *, temperature: float, entropy: bool
) -> Tensor:
    members = [rows[i] for i in whole.rows]
    with torch.no_grad():
        found = forward(members, temperature=temperature, entropy=entropy)
    logp_N = found.logp_N.requires_grad_()
    entropy_N = None if found.entropy_N is None else found.entropy_N.requires_grad_()
    value = loss(whole.rows, Scores(logp_N, entropy_N))
    torch.autograd.backward(value)
    grads = [x_N.grad for x_N in (logp_N, entropy_N) if x_N is not None]
    counts = [len(row.positions) for row in members]
    for part in forward.passes(members):
        scores = forward.run(part, temperature=temperature, entropy=entropy)
        outputs = [x_N for x_N in (scores.logp_N, scores.entropy_N) if x_N is not None]
        pieces = [None if g_N is None else torch.split(g_N, counts) for g_N in grads]
        torch.autograd.backward(
            outputs,
            [
                torch.zeros_like(x_N) if rows_grad is None else torch.cat([rows_grad[i] for i in part.rows])
                for x_N, rows_grad in zip(outputs, pieces, strict=True)
            ],
        )
    return value
