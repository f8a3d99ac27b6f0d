"""The load of the `engine` benchmark, served by Hugging Face's ways to generate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import ContinuousBatchingConfig, DynamicCache, GenerationConfig, StoppingCriteria

from agentrl.bench.speed.load import Load
from agentrl.episode import Ids, as_ids


class _Lengths(StoppingCriteria):
    """Ends each row at its own length."""

    def __init__(self, ends: Tensor) -> None:
        self._ends = ends

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        return self._ends <= input_ids.shape[1]


def generate(model: Any, load: Load) -> list[list[Ids]]:
    """Turn by turn over all conversations, padded on the left, each turn from its first token on.

    So do trainers that call `generate`: rows that have ended wait for the longest one.
    """
    contexts, lengths, done = load.prompts(), load.lengths(), [list[Ids]() for _ in range(load.conversations)]
    for turn in range(load.turns):
        longest = max(map(len, contexts))
        ids = torch.zeros((len(contexts), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, context in enumerate(contexts):
            ids[i, longest - len(context) :], mask[i, longest - len(context) :] = torch.from_numpy(context), 1
        wanted = torch.from_numpy(lengths[:, turn])
        out = model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            max_new_tokens=int(wanted.max()),
            eos_token_id=None,
            pad_token_id=0,
            stopping_criteria=[_Lengths(longest + wanted)],
        )
        sampled = [as_ids(row[longest : longest + n].numpy()) for row, n in zip(out, wanted, strict=True)]
        contexts = _extended(contexts, sampled, done, [o[turn] for o in load.observations()])
    return done


def continuous(model: Any, load: Load) -> list[list[Ids]]:
    """Transformers' continuous batching, with its prefix sharing; every conversation goes on by itself."""
    attention = model.config._attn_implementation
    make_config: Any = GenerationConfig
    config = make_config(do_sample=True, top_k=0, max_new_tokens=load.longest, eos_token_id=-1)
    blocks = load.conversations * -(-load.context // 32)
    paged = ContinuousBatchingConfig(page_size=32, num_blocks=blocks, max_batch_tokens=256, seed=0)
    contexts, lengths, heard = load.prompts(), load.lengths(), load.observations()
    done = [list[Ids]() for _ in contexts]
    with model.continuous_batching_context_manager(
        generation_config=config, continuous_batching_config=paged, warmup=False
    ) as manager:
        for i, context in enumerate(contexts):
            manager.add_request(
                context.tolist(), f"{i} 0", max_new_tokens=int(lengths[i, 0]), eos_token_id=-1
            )
        for _ in range(lengths.size):
            result = _next_of(manager)
            i, turn = map(int, result.request_id.split())
            done[i].append(as_ids(result.generated_tokens))
            contexts[i] = np.concatenate([contexts[i], done[i][-1], heard[i][turn]])
            if turn + 1 < load.turns:
                manager.add_request(
                    contexts[i].tolist(),
                    f"{i} {turn + 1}",
                    max_new_tokens=int(lengths[i, turn + 1]),
                    eos_token_id=-1,
                )
    model.set_attn_implementation(attention)
    return done


def _next_of(manager: Any) -> Any:
    while True:
        result = manager.get_result(timeout=1)
        if result is not None and result.error is not None:
            raise RuntimeError(f"continuous batching failed: {result.error}")
        if result is not None and result.is_finished():
            return result
        if result is None and not manager.is_running():
            raise RuntimeError("the continuous-batching manager ended on its own")


@torch.inference_mode()
def bare_loop(model: Any, *, rows: int, prompt: int, tokens: int, vocabulary: int) -> int:
    """The shortest loop over the model's modules: equal lengths, nobody ends; gives the sampled tokens."""
    ids = torch.randint(0, vocabulary, (rows, prompt))
    cache = DynamicCache(config=model.config)
    for _ in range(tokens):
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        logp = logits.log_softmax(-1)
        ids = torch.multinomial(logp.exp(), 1)
        logp.gather(-1, ids)
    return rows * tokens


def _extended(contexts: list[Ids], sampled: list[Ids], done: list[list[Ids]], heard: list[Ids]) -> list[Ids]:
    for kept, ids in zip(done, sampled, strict=True):
        kept.append(ids)
    return [np.concatenate(parts) for parts in zip(contexts, sampled, heard, strict=True)]
