"""The model: a small Qwen2 from scratch, started so that copying and comparing are learnt soon."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

PERIODS = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Number tokens start with sine and cosine of these periods beside their size."""
ORDER_SCALE = 0.08
"""How loud the ordinal start is beside the random one; louder, and near numbers get mixed up in copies."""
SHARPNESS = 2.0
"""Gain of the last norm at the start; with 1, small embeddings spread each copied number over its like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyShape:
    """The size of a tiny model."""

    layers: int = 2
    width: int = 128
    feed_forward: int = 256
    max_context: int = 1024


def make_model(
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    shape: TinyShape | None = None,
    numbers: tuple[int, ...] = (),
) -> Qwen2ForCausalLM:
    """Make a model with random weights, the same for the same seed.

    `initializer_range` 0.05 and `rope_theta` 100 make it learn to copy from its context in under a hundred
    steps, where the usual 0.02 and 10,000 take several hundred.

    Args:
        tokenizer: Gives the vocabulary.
        seed: Of the weights.
        shape: The size.
        numbers: The numbers seen in the texts; with them, number tokens start in order (`order_numbers`).
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    shape = shape or TinyShape()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // 64,
        num_key_value_heads=shape.width // 64,
        max_position_embeddings=shape.max_context,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
        model.model.norm.weight.data.fill_(SHARPNESS)
        if numbers:
            order_numbers(model.model.embed_tokens.weight, tokenizer, numbers)
    return model


@torch.no_grad()
def order_numbers(weight_VD: Tensor, tokenizer: PreTrainedTokenizerFast, seen: tuple[int, ...]) -> None:
    """Add to the embeddings of number tokens where each stands among the numbers seen in the texts.

    A random projection of its z-score and of sines and cosines: near numbers start near each other, so that
    comparing and halving need not be learnt one pair at a time.
    """
    values = torch.tensor(seen, dtype=torch.float32)
    middle, spread = values.mean(), values.std(correction=0).clamp_min(1.0)
    tokens = {int(t): i for t, i in tokenizer.get_vocab().items() if t.isascii() and t.isdecimal()}
    number_N = torch.tensor(list(tokens), dtype=torch.float32)
    angle_NP = number_N[:, None] * (2 * math.pi / torch.tensor(PERIODS))
    size_N = 3 * ((number_N - middle) / spread).clamp(-3, 3)
    feature_NF = torch.cat([size_N[:, None], 0.5 * angle_NP.sin(), 0.5 * angle_NP.cos()], dim=1)
    projection_FD = torch.randn(feature_NF.shape[1], weight_VD.shape[1]) / math.sqrt(weight_VD.shape[1])
    weight_VD[list(tokens.values())] += (
        ORDER_SCALE * feature_NF @ projection_FD * math.sqrt(weight_VD.shape[1] / 13)
    )
