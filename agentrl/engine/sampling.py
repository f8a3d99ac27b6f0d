"""Drawing tokens: request-seeded uniform numbers and the inverse of the cumulative distribution.

Everything here is one vectorised computation over rows, and no row reads another row's numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = {"cpu": 2**19}
"""Logits from which tokens are drawn at a time on a device; elsewhere `LARGE_BLOCK`."""
LARGE_BLOCK = 2**26
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def signed64(value: int) -> int:
    """Fold any integer into the range of int64, the same bits for the same low 64 bits.

    >>> signed64(2**64 - 1), signed64(7)
    (-1, 7)
    """
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _mixed(x: Tensor) -> Tensor:
    """Finaliser of splitmix64; int64 products wrap, and the mask makes the right shift a logical one."""
    for shift, factor in ((30, _MIX[0]), (27, _MIX[1])):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * signed64(factor)
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def uniform(seed: Tensor, position: Tensor) -> Tensor:
    """Uniform numbers in (0, 1), a function of request seed and position of the token in the context.

    Args:
        seed, position: int64, one shape.

    Returns:
        float64 with 48 random bits, so that a product with a sum of probabilities stays below that sum.

    Source: splitmix64, Steele et al. 2014; the seed is mixed first, so neighbouring seeds share no stream.
    """
    bits = _mixed(_mixed(seed) + (position + 1) * signed64(_GOLDEN))
    return (((bits >> 16) & ((1 << 48) - 1)).double() + 0.5) * 2.0**-48


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rules:
    """Sampling settings of R rows, as tensors of length R."""

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    plain: bool
    """Every row has temperature 1 and neither top-p nor top-k: the drawn distribution is the model's own."""

    def part(self, rows: slice) -> Rules:
        """Give those of some rows."""
        cut = [x[rows] for x in (self.temperature, self.top_p, self.top_k)]
        return Rules(temperature=cut[0], top_p=cut[1], top_k=cut[2], plain=self.plain)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """One token for each of R rows."""

    ids: Tensor
    logp: Tensor
    """Log-probability in nats under the distribution drawn from; 0 for greedy rows."""
    untempered: Tensor
    entropy: Tensor
    """Of the untempered distribution, in nats."""


def truncated(logits_RV: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Logits with -inf outside the top-k tokens and, among those, outside the nucleus of mass top-p.

    Args:
        logits_RV: Tempered logits.
        top_k: Tokens to keep, 0 = all, [R].
        top_p: Mass to keep, 1 = all, [R]; the token that reaches it is kept.

    Source: order and renormalisation as in Hugging Face's and vLLM's samplers.
    """
    size = logits_RV.shape[-1]
    sorted_RV, order = logits_RV.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(size, device=logits_RV.device)
    keep_k = rank < torch.where(top_k > 0, top_k, size)[:, None]
    mass = sorted_RV.masked_fill(~keep_k, -torch.inf).softmax(-1).double()
    keep = keep_k & ((mass.cumsum(-1) - mass < top_p[:, None]) | (top_p >= 1)[:, None])
    dropped = torch.zeros_like(keep).scatter(-1, order, ~keep)
    return logits_RV.masked_fill(dropped, -torch.inf)


def draw(logits_RV: Tensor, rules: Rules, uniform_R: Tensor) -> Drawn:
    """Draw one token per row by inverting the cumulative distribution in the order of the token ids.

    Rows are taken in blocks: what is computed on the way takes many times the memory of their logits.
    """
    blocks = _blocks(logits_RV)
    if len(blocks) == 1:
        return _draw(logits_RV, rules, uniform_R)
    drawn = [_draw(logits_RV[block], rules.part(block), uniform_R[block]) for block in blocks]
    return Drawn(
        ids=torch.cat([d.ids for d in drawn]),
        logp=torch.cat([d.logp for d in drawn]),
        untempered=torch.cat([d.untempered for d in drawn]),
        entropy=torch.cat([d.entropy for d in drawn]),
    )


def _blocks(logits_RV: Tensor) -> list[slice]:
    """Cut rows into blocks of about one size."""
    count, vocabulary = logits_RV.shape
    size = max(4, BLOCK.get(logits_RV.device.type, LARGE_BLOCK) // vocabulary)
    number = max(1, -(-count // size))
    return [slice(count * i // number, count * (i + 1) // number) for i in range(number)]


def _sum(values_RV: Tensor) -> Tensor:
    """Add up each row in the same order whatever stands beside it: of a single one, threads take parts."""
    if len(values_RV) == 1:
        return values_RV.expand(2, -1).sum(-1)[:1]
    return values_RV.sum(-1)


def _draw(logits_RV: Tensor, rules: Rules, uniform_R: Tensor) -> Drawn:
    base = logits_RV.float().log_softmax(-1)
    probs = base.exp()
    entropy = -_sum(probs * base.clamp(min=-1e30))
    logp_RV = base
    if not rules.plain:
        tempered = base / torch.where(rules.temperature > 0, rules.temperature, 1.0)[:, None]
        shaped = truncated(tempered, rules.top_k, rules.top_p).log_softmax(-1)
        # A row without settings of its own keeps the very bits that it has in plain company.
        own = (rules.temperature == 1) & (rules.top_p == 1) & (rules.top_k == 0)
        logp_RV = torch.where(own[:, None], base, shaped)
        probs = logp_RV.exp()
    cumulative = probs.double().cumsum(-1)
    target = (uniform_R * cumulative[:, -1])[:, None]
    ids = torch.searchsorted(cumulative, target, right=True).clamp(max=base.shape[-1] - 1)
    greedy = (rules.temperature == 0)[:, None]
    if not rules.plain:
        ids = torch.where(greedy, base.argmax(-1, keepdim=True), ids)
    logp = logp_RV.gather(-1, ids)
    if not rules.plain:
        logp = logp.masked_fill(greedy, 0.0)
    return Drawn(ids=ids[:, 0], logp=logp[:, 0], untempered=base.gather(-1, ids)[:, 0], entropy=entropy)
