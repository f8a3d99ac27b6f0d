"""Log-probability and entropy at the output head, without ever holding [tokens, vocabulary] whole.

Forward and backward go through the tokens chunk by chunk; the backward pass makes the logits of a chunk anew.
Only where all of them fit into one chunk are they kept.

Shape letters: N tokens, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from agentrl.errors import ConfigError

CHUNK = {"cpu": 2**23}
"""Logits of one chunk on a device; elsewhere `LARGE_CHUNK`."""
LARGE_CHUNK = 2**26


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadShape:
    """Logits of the product of hidden state and weights: softcap(product * scale) / temperature."""

    scale: float = 1.0
    softcap: float | None = None
    temperature: float = 1.0
    chunk: int = LARGE_CHUNK
    """Most logits held at a time."""
    compute: torch.dtype | None = None
    """Type of the products; None: that of the weights."""


def output_head(model: Any) -> nn.Linear:
    """Give a model's output head.

    Raises:
        ConfigError: It is no plain linear layer.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise ConfigError(f"output head of type {type(head).__name__}: need a plain torch.nn.Linear")
    return head


def head_shape(config: Any, **more: Any) -> HeadShape:
    """Read from a model's configuration what it does to logits."""
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(
        getattr(config, "logits_scaling", None) or 1.0
    )
    return HeadShape(scale=scale, softcap=getattr(config, "final_logit_softcapping", None), **more)


def token_scores(
    hidden_ND: Tensor, head: nn.Linear, target_N: Tensor, *, shape: HeadShape, entropy: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Give the log-probability of each target, and the entropy in nats if asked."""
    apply: Any = _Scores.apply
    logp_N, entropy_N = apply(hidden_ND, head.weight, head.bias, target_N, shape, entropy)
    return logp_N, entropy_N if entropy else None


class _Scores(torch.autograd.Function):
    """dlogp/dz = onehot - p, and dH/dz = -p (log p + H)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        target_N: Tensor,
        shape: HeadShape,
        entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        found = torch.promote_types(torch.float32, weight_VD.dtype)
        logp_N = hidden_ND.new_empty(len(target_N), dtype=found)
        lse_N, entropy_N = torch.empty_like(logp_N), torch.zeros_like(logp_N)
        weights = _cast(weight_VD, bias_V, shape)
        kept = None
        for part in _chunks(len(target_N), len(weight_VD), shape.chunk):
            logit_CV = _logits(hidden_ND[part], weights, shape, found)
            lse_N[part] = torch.logsumexp(logit_CV, -1)
            logp_N[part] = logit_CV.gather(1, target_N[part, None])[:, 0] - lse_N[part]
            if entropy:
                mean_C = torch.exp(logit_CV - lse_N[part, None]).mul_(logit_CV).sum(-1)
                entropy_N[part] = lse_N[part] - mean_C
            kept = logit_CV if len(logit_CV) == len(target_N) else None
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, target_N, lse_N, entropy_N, kept)
        ctx.shape, ctx.entropy = shape, entropy
        return logp_N, entropy_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, logp_grad_N: Tensor, entropy_grad_N: Tensor) -> tuple[Tensor | None, ...]:
        hidden_ND, weight_VD, bias_V, target_N, lse_N, entropy_N, kept = ctx.saved_tensors
        shape, wanted = ctx.shape, ctx.needs_input_grad
        weights = _cast(weight_VD, bias_V, shape)
        hidden_grad_ND = torch.empty_like(hidden_ND) if wanted[0] else None
        weight_grad_VD = torch.zeros_like(weight_VD) if wanted[1] else None
        bias_grad_V = torch.zeros_like(bias_V) if bias_V is not None and wanted[2] else None
        for part in _chunks(len(target_N), len(weight_VD), shape.chunk):
            logit_CV = _logits(hidden_ND[part], weights, shape, lse_N.dtype) if kept is None else kept
            more = (entropy_grad_N[part], entropy_N[part]) if ctx.entropy else None
            grad_CV = _product_grad(logit_CV, target_N[part], lse_N[part], logp_grad_N[part], more, shape)
            if bias_grad_V is not None:
                bias_grad_V += grad_CV.sum(0)
            grad_CV = grad_CV.to(weights[0].dtype)
            if hidden_grad_ND is not None:
                hidden_grad_ND[part] = grad_CV @ weights[0]
            if weight_grad_VD is not None:
                _add_product(weight_grad_VD, grad_CV, hidden_ND[part])
        return hidden_grad_ND, weight_grad_VD, bias_grad_V, None, None, None


def _cast(weight_VD: Tensor, bias_V: Tensor | None, shape: HeadShape) -> tuple[Tensor, Tensor | None]:
    dtype = shape.compute or weight_VD.dtype
    return weight_VD.to(dtype), None if bias_V is None else bias_V.to(dtype)


def _chunks(num_tokens: int, vocabulary: int, chunk: int) -> list[slice]:
    size = max(1, chunk // vocabulary)
    return [slice(begin, min(begin + size, num_tokens)) for begin in range(0, num_tokens, size)]


def _logits(
    hidden_CD: Tensor, weights: tuple[Tensor, Tensor | None], shape: HeadShape, dtype: torch.dtype
) -> Tensor:
    logit_CV = functional.linear(hidden_CD.to(weights[0].dtype), *weights).to(dtype)
    if shape.softcap is not None:
        logit_CV.mul_(shape.scale / shape.softcap).tanh_().mul_(shape.softcap / shape.temperature)
    elif shape.scale != shape.temperature:
        logit_CV.mul_(shape.scale / shape.temperature)
    return logit_CV


def _product_grad(
    logit_CV: Tensor,
    target_C: Tensor,
    lse_C: Tensor,
    logp_grad_C: Tensor,
    entropy: tuple[Tensor, Tensor] | None,
    shape: HeadShape,
) -> Tensor:
    """Give the gradient of the product of hidden state and weights; `entropy` is (gradient, value)."""
    slope_CV = None
    if shape.softcap is not None:
        slope_CV = 1 - (logit_CV * (shape.temperature / shape.softcap)).square_()
    grad_CV = torch.sub(logit_CV, lse_C[:, None])
    weight = -logp_grad_C[:, None]
    if entropy is not None:
        grad_C, value_C = entropy
        weight = torch.add(grad_CV, value_C[:, None]).mul_(-grad_C[:, None]).add_(weight)
    grad_CV.exp_().mul_(weight)
    grad_CV.scatter_add_(1, target_C[:, None], logp_grad_C[:, None].to(grad_CV.dtype))
    if shape.scale != shape.temperature:
        grad_CV.mul_(shape.scale / shape.temperature)
    return grad_CV if slope_CV is None else grad_CV.mul_(slope_CV)


def _add_product(total_VD: Tensor, grad_CV: Tensor, hidden_CD: Tensor) -> None:
    if grad_CV.dtype == total_VD.dtype:
        total_VD.addmm_(grad_CV.T, hidden_CD.to(total_VD.dtype))
    else:
        total_VD += grad_CV.T @ hidden_CD.to(grad_CV.dtype)
