"""Running a Hugging Face model over packed rows and with checkpoints; outside, it is as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from agentrl.trainers.passes.tiles import Tiles

NAME = "agentrl_tiles"


def can_pack(model: Any) -> bool:
    """Whether a model says that it takes attention from outside, and wants nothing special of it."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    window = getattr(config, "sliding_window", None) if not hasattr(config, "layer_types") else None
    special = window or getattr(config, "attn_logit_softcapping", None)
    return bool(model._supports_attention_backend) and not kinds and not special


@contextlib.contextmanager
def running(model: Any, *, tiled: bool, checkpointed: bool) -> Iterator[None]:
    """Take attention by tiles, and forget activations that the backward pass makes anew."""
    with contextlib.ExitStack() as stack:
        if tiled:
            stack.enter_context(_tiled(model))
        if checkpointed:
            stack.enter_context(_checkpointed(model, tiled=tiled))
        yield


@contextlib.contextmanager
def _tiled(model: Any) -> Iterator[None]:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, tiled_attention)
    before = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before


def tiled_attention(
    module: nn.Module,
    query_BHTD: Tensor,
    key_BGTD: Tensor,
    value_BGTD: Tensor,
    attention_mask: Tensor | None,
    *,
    tiles: Tiles,
    scaling: float | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Attention as Hugging Face models call it; gives [1, T, H, D]."""
    result = tiles.attend(query_BHTD[0], key_BGTD[0], value_BGTD[0], scale=scaling)
    return result[None], None


@contextlib.contextmanager
def _checkpointed(model: Any, *, tiled: bool) -> Iterator[None]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    again = partial(_tiled, model) if tiled else contextlib.nullcontext
    once_more = partial(
        checkpoint,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing is drawn: dropout is off
        context_fn=lambda: (contextlib.nullcontext(), again()),
    )
    # Not by the layer's own switch: that works only "in training", which turns dropout on.
    with contextlib.ExitStack() as stack:
        for layer in model.modules():
            if isinstance(layer, GradientCheckpointingLayer):
                stack.enter_context(_forward_by(once_more, layer))
        yield


@contextlib.contextmanager
def _forward_by(call: Callable[..., Any], layer: nn.Module) -> Iterator[None]:
    """Let `call` make a layer's forward pass."""
    own = vars(layer).get("forward")  # somebody's hook
    layer.forward = partial(call, layer.forward)
    try:
        yield
    finally:
        del layer.forward
        if own is not None:
            layer.forward = own
