"""Rotary embeddings that change with the longest row of a pass: up to where they do not, and their memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn


def steady_context(model: nn.Module) -> float:
    """Most tokens of a row for which every rotation depends on the position alone; inf where all always do.

    Beyond it Hugging Face takes other frequencies for the whole pass, `longrope` one other set and `dynamic`
    a set for each length: then a row's log-probs depend on the rows beside it.
    """
    limits = [_limit(module, layer, kind) for module in model.modules() for layer, kind in _kinds(module)]
    return min(limits, default=math.inf)


def forget_length(model: nn.Module) -> None:
    """Let the next pass choose its frequencies itself: `dynamic` keeps those of the longest pass before."""
    for module in model.modules():
        for layer, kind in _kinds(module):
            if "dynamic" in kind:
                first = torch.zeros(1, 1, dtype=torch.int64, device=next(model.parameters()).device)
                module(first.float(), first, *layer)


def hold_frequencies(model: nn.Module) -> None:
    """Let no pass change the frequencies, where tensors have no values to choose them by."""
    modules: Iterable[Any] = model.modules()
    for module in modules:
        for layer, kind in list(_kinds(module)):
            if "dynamic" in kind:
                module.rope_type = {**module.rope_type, layer[0]: "default"} if layer else "default"


def _kinds(module: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Give the kinds of a module's rotations, each with the arguments that ask for it."""
    kind = getattr(module, "rope_type", None)
    if isinstance(kind, str):
        yield (), kind
    elif isinstance(kind, dict):
        yield from (((layer,), of_layer) for layer, of_layer in kind.items())


def _limit(module: Any, layer: tuple[str, ...], kind: str) -> float:
    if "dynamic" in kind:
        return int(module.original_max_seq_len)
    if kind != "longrope":
        return math.inf
    settings = module.config.rope_parameters
    return int((settings[layer[0]] if layer else settings)["original_max_position_embeddings"])
