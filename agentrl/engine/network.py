"""The forward pass of Qwen2, Qwen3 and Llama over packed tokens of many rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from agentrl.engine.feed import Feed, Span
from agentrl.engine.fused import Fused, fuse
from agentrl.engine.kv import KEY_BLOCK, KVPool

FAMILIES = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Rotations that depend on the position alone and not on the length of the context."""
CPU_TOKENS, GPU_TOKENS = 256, 8192
"""Most tokens in one step: enough to fill the machine, few enough that sampling rows do not wait long."""
CPU_CALL, GPU_CALL = 192, 1 << 16
"""What an attention call costs besides its work, in keys of one token."""


class Norms(NamedTuple):
    """Root-mean-square norms of a layer; the last two exist in Qwen3."""

    attention: nn.Module
    mlp: nn.Module
    query: nn.Module | None
    key: nn.Module | None


class Layer(NamedTuple):
    """One layer's weights; they are views of the model's own parameters."""

    qkv: Fused
    out: nn.Linear
    gate_up: Fused
    down: nn.Linear
    activation: Any
    norms: Norms


class Network:
    """Feeds packed tokens through the weights of a Hugging Face model, with keys and values in a pool.

    Args:
        model: One of FAMILIES; its projections are fused in place, its parameters stay usable.
        max_context: Length of the table of rotations.
        tile: The number of tokens is rounded up to a multiple of it.
        exact: Give each token the same arithmetic whatever stands beside it: one query position per attention
            item, whether it is a prompt's token or a sampled one. False: a prompt's tokens share a call.
    """

    def __init__(self, model: Any, *, max_context: int, tile: int = 1, exact: bool = False) -> None:
        self.tile, self.exact = tile, exact
        on_cpu = model.device.type == "cpu"
        self.budget = CPU_TOKENS if on_cpu else GPU_TOKENS
        self.call_cost = CPU_CALL if on_cpu else GPU_CALL
        self._modules = list(model.modules())
        base = model.model
        attention = base.layers[0].self_attn
        self._heads = int(model.config.num_attention_heads)
        self._kv_heads = int(model.config.num_key_value_heads)
        self._head_dim, self._scale = int(attention.head_dim), float(attention.scaling)
        self._embedding, self._norm, self._head = base.embed_tokens, base.norm, model.lm_head
        self._layers = [_layer(layer) for layer in base.layers]
        self._device, self._dtype = model.device, model.dtype
        self._cos, self._sin = _rotations(base.rotary_emb, max_context, model)

    def hooked(self) -> bool:
        """Whether someone put a hook on one of the modules, which this pass would not call."""
        return hooked(self._modules)

    @torch.inference_mode()
    def logits(self, feed: Feed, pool: KVPool) -> Tensor:
        """Give the logits after each of `feed.last`, [S, V], with S rounded up to a multiple of `tile`."""
        hidden = self._hidden(feed, pool)
        last = self._index(feed.last, len(feed.last), fill=0)
        return functional.linear(self._norm_of(self._norm, hidden[last]), self._head.weight, self._head.bias)

    def _hidden(self, feed: Feed, pool: KVPool) -> Tensor:
        count = len(feed.ids)
        ids = self._index(feed.ids, count, fill=0)
        rows = self._index(feed.rows, count, fill=pool.rows)
        positions = self._index(feed.positions, count, fill=0)
        places = pool.places(rows, positions)
        cos, sin = self._cos[positions], self._sin[positions]
        spans = [s._replace(length=-(-s.length // KEY_BLOCK) * KEY_BLOCK) for s in feed.spans]
        mask = self._mask(positions[:count], max(s.length for s in spans))
        x: Tensor = self._embedding.weight[ids]
        for i, layer in enumerate(self._layers):
            qkv = self._rotated(layer, self._norm_of(layer.norms.attention, x), cos, sin)
            pool.write(i, places, qkv[:, self._heads :])
            query = qkv[:, : self._heads].view(len(x), self._kv_heads, -1, self._head_dim)
            seen = self._attend(query, pool.keys[i], pool.values[i], spans, mask)
            x = _plus_linear(x, layer.out, seen)
            gate, up = layer.gate_up(self._norm_of(layer.norms.mlp, x)).chunk(2, -1)
            x = _plus_linear(x, layer.down, layer.activation(gate).mul_(up))
        return x

    def _index(self, values: Any, count: int, *, fill: int) -> Tensor:
        padded = torch.full((-(-count // self.tile) * self.tile,), fill)
        padded[:count] = torch.from_numpy(values)
        return padded.to(self._device)

    def _mask(self, positions: Tensor, length: int) -> Tensor:
        hidden = torch.arange(length, device=self._device) > positions[:, None]
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(hidden, -torch.inf)

    def _norm_of(self, norm: Any, x: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return functional.rms_norm(x, x.shape[-1:], norm.weight, norm.variance_epsilon)
        scaled = functional.rms_norm(x.float(), x.shape[-1:], None, norm.variance_epsilon)
        return cast(Tensor, norm.weight * scaled.to(x.dtype))

    def _rotated(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Queries, keys and values [T, heads + 2 kv_heads, head_dim], the first two rotated by position."""
        qkv = layer.qkv(x).view(len(x), -1, self._head_dim)
        norms, border = layer.norms, self._heads + self._kv_heads
        if norms.query is not None:
            qkv[:, : self._heads] = self._norm_of(norms.query, qkv[:, : self._heads])
            qkv[:, self._heads : border] = self._norm_of(norms.key, qkv[:, self._heads : border])
        turned = qkv[:, :border]
        swapped = turned.roll(self._head_dim // 2, -1)
        turned.mul_(cos).addcmul_(swapped, sin)
        return qkv

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, spans: list[Span], mask: Tensor) -> Tensor:
        """Attention of query [T, kv_heads, group, head_dim]; give [T, heads * head_dim]."""
        seen = [self._attend_span(query, keys, values, span, mask) for span in spans]
        missing = len(query) - spans[-1].end
        if missing:
            seen.append(query.new_zeros((missing, *query.shape[1:])))
        whole = torch.cat(seen) if len(seen) > 1 else seen[0]
        return whole.reshape(len(query), -1)

    def _attend_span(self, query: Tensor, keys: Tensor, values: Tensor, span: Span, mask: Tensor) -> Tensor:
        begin, end, row, one_row, length = span
        q, count = query[begin:end], end - begin
        m = mask[begin:end, :length]
        rows = slice(row, row + 1 if one_row else row + count)
        k, v = keys[rows, :, :length], values[rows, :, :length]
        if one_row and not self.exact:  # heads as batch, the heads of a group share their keys
            group = query.shape[2]
            k, v = (x[0][:, None].expand(-1, group, -1, -1) for x in (k, v))
            out = functional.scaled_dot_product_attention(
                q.permute(1, 2, 0, 3), k, v, attn_mask=m, scale=self._scale
            )
            return out.permute(2, 0, 1, 3)
        if one_row:
            k, v = k.expand(count, -1, -1, -1), v.expand(count, -1, -1, -1)
        # The heads of a group stand where positions would, so that keys are not repeated for them.
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=m[:, None, None], scale=self._scale)


def hooked(modules: Iterable[nn.Module]) -> bool:
    """Whether one of the modules has a hook on its forward pass."""
    return any(m._forward_pre_hooks or m._forward_hooks for m in modules)


def _plus_linear(x: Tensor, linear: nn.Linear, y: Tensor) -> Tensor:
    out = torch.addmm(x, y, linear.weight.t())
    return out if linear.bias is None else out.add_(linear.bias)


def _layer(layer: Any) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return Layer(
        qkv=fuse([attention.q_proj, attention.k_proj, attention.v_proj]),
        out=attention.o_proj,
        gate_up=fuse([mlp.gate_proj, mlp.up_proj]),
        down=mlp.down_proj,
        activation=mlp.act_fn,
        norms=Norms(
            attention=layer.input_layernorm,
            mlp=layer.post_attention_layernorm,
            query=getattr(attention, "q_norm", None),
            key=getattr(attention, "k_norm", None),
        ),
    )


@torch.no_grad()
def _rotations(rotary: Any, max_context: int, model: Any) -> tuple[Tensor, Tensor]:
    """Cosines and sines [P, 1, head_dim]; the sine's sign is that of the half it multiplies."""
    positions = torch.arange(max_context, device=model.device)[None]
    cos, sin = rotary(torch.zeros(1, dtype=model.dtype, device=model.device), positions)
    half = sin.shape[-1] // 2
    signed = torch.cat((-sin[0, :, :half], sin[0, :, half:]), -1)
    return cos[0, :, None].contiguous(), signed[:, None].contiguous()
