"""Training a small adapter in the place of the weights, by peft."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from agentrl.errors import ConfigError

ADAPTER = "default"
MERGED = ".base_layer.weight"
"""What the name of a weight ends with that the adapter is added to."""


class Adapter:
    """A low-rank adapter on all linear layers of a model but its output head.

    The model keeps its class and its place; until `merge`, its linear layers are peft's.

    Args:
        model: Its own weights are frozen.
        rank: Of the two matrices for each layer.
        alpha: Their product is scaled by alpha / rank.
        seed: Of the first matrix; the second one begins with zeros, so the start is the model as it is.

    Raises:
        ConfigError: peft is not installed.

    Source: LoRA, arXiv:2106.09685.
    """

    def __init__(self, model: nn.Module, *, rank: int, alpha: float, seed: int) -> None:
        peft = _peft()
        self.model = model
        self._trained = {name for name, p in model.named_parameters() if p.requires_grad}
        config = peft.LoraConfig(
            r=rank, lora_alpha=alpha, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng(), warnings.catch_warnings():
            torch.manual_seed(seed)
            warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated")  # in peft
            self._peft = peft.get_peft_model(model, config)

    def named_tensors(self) -> dict[str, Tensor]:
        """Give the weights that the model has with the adapter merged, under their ordinary names."""
        kind = _peft().tuners.lora.LoraLayer
        layers: dict[str, Any] = {n: m for n, m in self.model.named_modules() if isinstance(m, kind)}
        found = {}
        for name, parameter in self.model.named_parameters():
            owner, _, leaf = name.rpartition(".base_layer.")
            if ".lora_" in name:
                continue
            value = parameter.detach()
            if name.endswith(MERGED):
                value = value + layers[owner].get_delta_weight(ADAPTER).detach()
            found[f"{owner}.{leaf}" if owner else name] = value
        return found

    def off(self) -> AbstractContextManager[None]:
        """Run the model without its adapter."""
        context: AbstractContextManager[None] = self._peft.disable_adapter()
        return context

    def merge(self) -> None:
        """Add the adapter to the weights and take it off; the model is an ordinary one again."""
        self._peft.merge_and_unload()
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self._trained)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: the adapter alone."""
        return {n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take what a checkpoint kept."""
        own = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        if own.keys() != state.keys():
            raise ConfigError(
                f"the checkpoint's adapter has {len(state)} tensors, this one {len(own)}: another lora_rank?"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])


def _peft() -> Any:
    try:
        import peft
    except ModuleNotFoundError as error:
        raise ConfigError("update.lora_rank needs peft: pip install 'agentrl[lora]'") from error
    return peft
