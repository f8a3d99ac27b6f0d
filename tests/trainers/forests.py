"""Rows with common beginnings, and models of several families, for tests of how rows go through a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from agentrl.trainers.batch import Row
from agentrl.trainers.passes.forward import Forward
from agentrl.trainers.passes.planning import Path

VOCABULARY = 23
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "attn_implementation": "sdpa",
}
MODELS: dict[str, Callable[[], Any]] = {
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SMALL, tie_word_embeddings=True)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SMALL, attention_bias=True)),
    "granite": lambda: GraniteForCausalLM(
        GraniteConfig(**SMALL, logits_scaling=3.0, attention_multiplier=0.2)
    ),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**SMALL, logit_scale=0.5)),
}


def family(name: str, *, dtype: torch.dtype = torch.float32) -> Any:
    """Give a small model of a family, always the same."""
    torch.manual_seed(0)
    model = MODELS[name]()
    nn.Module.to(model, dtype)
    return model


def gemma2() -> Any:
    """Give a model whose attention nobody packs, and whose logits are capped."""
    torch.manual_seed(0)
    config = Gemma2Config(**SMALL | {"attn_implementation": "eager"}, final_logit_softcapping=3.0)
    return Gemma2ForCausalLM(config)


def opt() -> Any:
    """Give a model whose layers apply dropout as a function, by their own `training`."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 16, "word_embed_proj_dim": 16}
    layers: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 24}
    return OPTForCausalLM(OPTConfig(**sizes, **layers, dropout=0.1, init_std=0.3, max_position_embeddings=64))


@dataclass(frozen=True)
class Branch:
    """A piece of a tree: its tokens, whether they are trained, and what comes after it."""

    ids: tuple[int, ...]
    trained: bool
    children: tuple["Branch", ...]


TOKEN = st.integers(0, 3)
"""Few different ones: then rows share more than their tree says."""
PIECES = st.lists(TOKEN, min_size=1, max_size=6).map(tuple)
TREES = st.recursive(
    st.builds(Branch, ids=PIECES, trained=st.just(True), children=st.just(())),
    lambda inner: st.builds(
        Branch, ids=PIECES, trained=st.booleans(), children=st.lists(inner, min_size=1, max_size=4).map(tuple)
    ),
    max_leaves=12,
)


def leaves(tree: Branch, ids: tuple[int, ...] = (5,), trained: tuple[bool, ...] = (False,)) -> list[Row]:
    """Give the row of each leaf, from the root to it."""
    ids, trained = ids + tree.ids, trained + (tree.trained,) * len(tree.ids)
    if tree.children:
        return [row for child in tree.children for row in leaves(child, ids, trained)]
    return [Row(ids=np.array(ids, np.int64), positions=np.flatnonzero(trained[1:]))]


def random_rows(count: int, *, seed: int, longest: int = 40) -> list[Row]:
    """Rows in groups of four with a prompt in common; in each, some of the rest is trained."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        if index % 4 == 0:
            prompt = random.integers(0, VOCABULARY, random.integers(2, longest // 2))
        rest = random.integers(0, VOCABULARY, random.integers(2, longest // 2))
        ids = np.concatenate([prompt, rest])
        chosen = np.flatnonzero(random.random(len(rest)) < 0.7) + len(prompt) - 1
        rows.append(Row(ids=ids, positions=np.union1d(chosen, [len(ids) - 2]), episode=index))
    return rows


def outcome(
    model: Any,
    rows: Sequence[Row],
    path: Path,
    *,
    weight_N: Tensor | None = None,
    max_tokens: int = 4096,
    **settings: Any,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Give log-probs, and the gradient of their weighted sum and of the mean entropy."""
    model.zero_grad(set_to_none=True)
    scores = Forward(model, path=path, max_tokens=max_tokens, **settings)(rows, entropy=True)
    assert scores.entropy_N is not None
    weight_N = torch.linspace(-1, 1, len(scores.logp_N)) if weight_N is None else weight_N
    torch.autograd.backward(
        (weight_N.to(scores.logp_N) * scores.logp_N).mean() + 0.1 * scores.entropy_N.mean()
    )
    return scores.logp_N.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
