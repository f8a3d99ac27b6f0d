"""Checks on models and weights at the engine's door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agentrl.errors import ConfigError, unknown

ATTENTION = ("sdpa", "eager")
LAYERS = {"full_attention", "sliding_attention"}


def check_model(model: Any) -> None:
    """Refuse a model whose attention the engine does not feed.

    Raises:
        ConfigError: Another attention kernel, or layers that keep something else than keys and values.
    """
    config = model.config
    if config._attn_implementation not in ATTENTION:
        raise ConfigError(
            f"attn_implementation={config._attn_implementation!r}: load the model with one of {ATTENTION}"
        )
    others = set(getattr(config, "layer_types", None) or ()) - LAYERS
    if others:
        raise ConfigError(f"the model has layers of type {sorted(others)}: supported are {sorted(LAYERS)}")


def check_weights(model: Any, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors by name when they are exactly the model's parameters; tied ones may come twice.

    Raises:
        ConfigError: An unknown or missing name, another shape, or two values for one tied parameter.
    """
    known = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in named.items():
        if name not in known:
            raise ConfigError(unknown("parameter", name, known))
        if tensor.shape != known[name].shape:
            got, need = tuple(tensor.shape), tuple(known[name].shape)
            raise ConfigError(f"parameter {name!r} has shape {got}: the model's is {need}")
    given: dict[int, str] = {}
    for name in named:
        first = given.setdefault(id(known[name]), name)
        if first != name and not torch.equal(named[first], named[name]):
            raise ConfigError(f"{first!r} and {name!r} are tied in the model but differ: give one of them")
    missing = [name for name, parameter in known.items() if id(parameter) not in given]
    if missing:
        raise ConfigError(f"{len(missing)} parameters are missing, {missing[0]!r} first: give all of them")
    return dict(named)
