"""Small models, episodes and batches for the tests of the trainers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentrl.episode import (
    Columns,
    Context,
    Episode,
    Failure,
    Finish,
    ScoredEpisode,
    ScoredGroup,
    Segment,
    as_ids,
)

VOCABULARY = 17


def small_model(
    *, seed: int = 0, tied: bool = True, dtype: torch.dtype = torch.float32, **settings: Any
) -> Qwen2ForCausalLM:
    """A Qwen2 of a few thousand parameters, with weights large enough to have opinions."""
    torch.manual_seed(seed)
    usual = {
        "vocab_size": VOCABULARY,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "tie_word_embeddings": tied,
    }
    model = Qwen2ForCausalLM(Qwen2Config(**{**usual, **settings}))
    torch.nn.Module.to(model, dtype)
    return model


def columns(count: int, *, logp: float = -1.0, version: int = 0) -> Columns:
    """Columns with one value everywhere."""
    values = np.full(count, logp, dtype=np.float32)
    return Columns(logp=values, untempered=values, entropy=-values, version=as_ids([version] * count))


def context(seed: int, lengths: Sequence[int]) -> Context:
    """A prompt, then an action of each length with an observation after it."""
    random = np.random.default_rng(seed)

    def draw(count: int) -> object:
        return random.integers(0, VOCABULARY, count)

    segments = [Segment(kind="prompt", ids=as_ids(draw(2 + seed % 3)))]
    for turn, length in enumerate(lengths):
        segments.append(Segment(kind="action", ids=as_ids(draw(length)), turn=turn, columns=columns(length)))
        segments.append(Segment(kind="observation", ids=as_ids(draw(1 + seed % 2)), turn=turn))
    return Context(segments=tuple(segments))


def episode(
    name: str,
    reward: float,
    *contexts: Context,
    finish: Finish = "terminated",
    correct: bool | None = None,
) -> Episode:
    """An episode with a reward."""
    failure = Failure(kind="tool", message="the disk is full", turn=1) if finish == "failed" else None
    group = name.partition("/")[0]
    return Episode(
        id=name,
        task_id=group,
        group_id=group,
        finish=finish,
        contexts=contexts,
        reward=reward,
        correct=correct,
        failure=failure,
    )


def scored(name: str, reward: float, *contexts: Context, finish: Finish = "terminated") -> ScoredEpisode:
    """A scored episode."""
    return ScoredEpisode(episode=episode(name, reward, *contexts, finish=finish), reward=reward)


def scored_group(name: str, rewards: Sequence[float], *, seed: int = 0) -> ScoredGroup:
    """A group of episodes of one to three turns of different lengths."""
    random = np.random.default_rng(seed)
    members = [
        scored(f"{name}/{i}", reward, context(seed * 100 + i, random.integers(1, 5, 1 + i % 3).tolist()))
        for i, reward in enumerate(rewards)
    ]
    return ScoredGroup(id=name, episodes=tuple(members))
