"""`engine`: sampled tokens per second of `TorchEngine`, against Hugging Face's ways over the same model.

Three peers over the same weights, one torch thread each. `generate` and transformers' continuous batching
serve a multi-turn load (`Load`: log-normal lengths, shared prefixes). A bare decode loop over the model's
modules samples equal lengths, the case in which a batching engine has nothing to win. The engine runs as it
does by default on a CPU, deterministic; its fast mode is measured beside it.

Seconds are CPU seconds of this process: nobody waits for anything here, so on an idle machine they are wall
seconds, and on a busy one they still compare.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from agentrl.bench.speed import peers
from agentrl.bench.speed.claim import Claim, Peer, Wanted
from agentrl.bench.speed.load import Load
from agentrl.engine.complete import complete
from agentrl.engine.protocol import Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import Ids
from agentrl.progress import Progress

SIZES: dict[str, tuple[int, int]] = {"0.2M": (64, 2), "1M": (128, 4), "5M": (256, 6)}
"""Hidden size and layers; 4 heads on 2 key-value heads, 2,048 tokens, tied embeddings."""
EQUAL = {"rows": 64, "prompt": 16, "tokens": 128}
WANTED = {"generate": 3.0, "continuous batching": 1.0, "a bare loop": 0.85, "its fast mode": 0.6}
"""Least ratio of our tokens per second to the peer's."""

PACKAGES = ("agentrl", "torch", "transformers")


def engine(
    progress: Progress, *, runs: int = 3, sizes: Sequence[str] = tuple(SIZES), load: Load | None = None
) -> list[Claim]:
    """Measure all comparisons at all sizes."""
    torch.set_num_threads(1)
    load = load or Load()
    progress.phase("engine", len(sizes) * runs)
    return [claim for size in sizes for claim in compare(size, load, runs, progress)]


def compare(size: str, load: Load, runs: int, progress: Progress) -> list[Claim]:
    """Measure every way in turn, so that what else the machine does falls on all of them alike."""
    model = tiny(size, load)
    ways: dict[str, Callable[[], int]] = {
        "turns": lambda: conversations(model, load, deterministic=True),
        "turns_fast": lambda: conversations(model, load, deterministic=False),
        "generate": lambda: counted(peers.generate(model, load), load),
        "continuous": lambda: counted(peers.continuous(model, load), load),
        "equal": lambda: equal_lengths(model, deterministic=True),
        "bare_loop": lambda: peers.bare_loop(model, **EQUAL, vocabulary=load.vocabulary),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            begin = time.process_time()
            speeds[name].append(way() / (time.process_time() - begin))
        progress.advance()
    pairs = [
        ("generate", "turns", "generate"),
        ("continuous batching", "turns", "continuous"),
        ("a bare loop", "equal", "bare_loop"),
        ("its fast mode", "turns", "turns_fast"),
    ]
    return [
        Claim(
            name=f"engine.{size}.{peer.replace(' ', '_')}",
            unit="sampled tokens per CPU second",
            runs=speeds[ours],
            peer=Peer(name=peer, runs=speeds[theirs]),
            wanted=Wanted(direction="at least", value=WANTED[peer]),
            packages=PACKAGES,
            details={"load": repr(load)},
        )
        for peer, ours, theirs in pairs
    ]


def tiny(size: str, load: Load) -> Any:
    """A Qwen2 of about that many parameters, with random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    hidden, layers = SIZES[size]
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=load.vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max(load.context, sum(EQUAL.values())),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    model: Any = Qwen2ForCausalLM(config)
    return model.eval()


def conversations(model: Any, load: Load, *, deterministic: bool) -> int:
    """Serve the load with our engine; gives the sampled tokens."""

    async def converse(served: TorchEngine, i: int) -> list[Ids]:
        context, done = prompts[i], list[Ids]()
        for turn, heard in enumerate(observations[i]):
            sampling = Sampling(max_tokens=int(lengths[i, turn]))
            done.append((await complete(served, context, sampling, seed=i)).ids)
            context = np.concatenate([context, done[-1], heard])
        return done

    async def all_of(served: TorchEngine) -> list[list[Ids]]:
        return list(await asyncio.gather(*(converse(served, i) for i in range(load.conversations))))

    prompts, lengths, observations = load.prompts(), load.lengths(), load.observations()
    return counted(serve(model, all_of, deterministic), load)


def equal_lengths(model: Any, *, deterministic: bool) -> int:
    """Sample what the bare loop samples; gives the sampled tokens."""
    vocabulary = model.config.vocab_size
    prompts = np.random.default_rng(0).integers(0, vocabulary, (EQUAL["rows"], EQUAL["prompt"]))
    sampling = Sampling(max_tokens=EQUAL["tokens"])

    async def all_of(served: TorchEngine) -> list[Ids]:
        jobs = (complete(served, p.tolist(), sampling, seed=i) for i, p in enumerate(prompts))
        return [done.ids for done in await asyncio.gather(*jobs)]

    return sum(map(len, serve(model, all_of, deterministic)))


def serve(model: Any, work: Callable[[TorchEngine], Any], deterministic: bool) -> Any:
    """Run something on an engine with a copy of the model."""

    async def run() -> Any:
        served = TorchEngine(copy.deepcopy(model), deterministic=deterministic)
        try:
            return await work(served)
        finally:
            await served.close()

    return asyncio.run(run())


def counted(done: list[list[Ids]], load: Load) -> int:
    """The sampled tokens, which must be what the load asks for."""
    got = np.array([[len(ids) for ids in turns] for turns in done])
    if not np.array_equal(got, load.lengths()):
        raise RuntimeError(f"{int(got.sum())} tokens were sampled: the load is {int(load.lengths().sum())}")
    return int(got.sum())
