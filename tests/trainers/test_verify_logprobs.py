"""Engine against trainer on live rollouts: a stale cache is found, and an honest engine is never accused."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from agentrl.engine.complete import complete
from agentrl.engine.protocol import Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import Columns, Context, Episode, Group, Segment, as_ids
from agentrl.rollout.protocol import WorkItem
from agentrl.task import SeededTasks, derive_seed
from agentrl.trainers.batch import Row
from agentrl.trainers.grpo import grpo
from agentrl.trainers.parts import Mismatch
from agentrl.trainers.passes.forward import Forward, Precision
from agentrl.trainers.run.loop import Loop
from agentrl.trainers.updater import Updater
from agentrl.trainers.verify import LIMITS, Verifier, WeightsDiffer
from tests.trainers.making import VOCABULARY, episode, small_model


@dataclass
class Cached:
    """Samples from the trainer's weights behind a cached prompt; `stale`: one cached under older weights."""

    updater: Updater
    stale: bool
    odd: bool = False
    prompt: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    kept: Any = None
    version: int = -1

    async def collect(self, work: Sequence[WorkItem]) -> AsyncIterator[Group]:
        model: Any = self.updater.model
        if self.kept is None or (self.updater.version != self.version and not self.stale):
            with torch.no_grad():
                ids = torch.tensor([self.prompt[:-1]])
                self.kept, self.version = model(ids, use_cache=True).past_key_values, self.updater.version
        for item in work:
            yield Group(id=item.group_id, episodes=tuple(self.attempt(item, i) for i in range(item.size)))

    @torch.no_grad()
    def attempt(self, item: WorkItem, index: int) -> Episode:
        model: Any = self.updater.model
        random = torch.Generator().manual_seed(derive_seed(item.seed, index) % 2**31)
        cache, last, ids, logps = copy.deepcopy(self.kept), self.prompt[-1], [], []
        for _ in range(4):
            logits = model(torch.tensor([[last]]), past_key_values=cache, use_cache=True).logits[0, -1]
            last = int(torch.multinomial(logits.softmax(-1), 1, generator=random))
            ids.append(last)
            logps.append(float(logits.log_softmax(-1)[last]))
        values = torch.tensor(logps).numpy()
        versions = as_ids([self.updater.version] * len(ids))
        versions[0] -= self.odd
        columns = Columns(logp=values, untempered=values, entropy=-values, version=versions)
        action = Segment(kind="action", ids=as_ids(ids), columns=columns)
        context = Context(segments=(Segment(kind="prompt", ids=as_ids(self.prompt)), action))
        reward = float(sum(i < VOCABULARY // 2 for i in ids))
        return replace(episode(f"{item.group_id}/{index}", reward, context), group_id=item.group_id)


def train_cached(*, stale: bool, odd: bool = False) -> tuple[list[Any], Updater, BaseException | None]:
    """Train; gives the metrics, the trainer and what stopped it. `odd`: a token has another version."""

    async def run() -> tuple[list[Any], Updater, BaseException | None]:
        recipe = grpo(
            steps=4, groups_per_step=2, group_size=6, learning_rate=1e-3, warmup_steps=0, stop_success=0
        )
        engine = TorchEngine(small_model(), capacity_rows=2)
        updater = Updater(small_model(), recipe.optimiser, total_steps=recipe.steps)
        loop = Loop(
            recipe=recipe,
            tasks=SeededTasks(),
            strategy=Cached(updater, stale, odd=odd),
            engine=engine,
            updater=updater,
        )
        try:
            return await loop.run(), updater, None
        except WeightsDiffer as error:
            return loop.done, updater, error
        finally:
            await engine.close()

    return asyncio.run(run())


@pytest.mark.parametrize("odd", [False, True], ids=["", "one token of another version"])
def test_a_stale_prefix_cache_stops_the_run_before_it_learns_from_it(odd: bool) -> None:
    done, _, stopped = train_cached(stale=False, odd=odd)
    assert len(done) == 4 and stopped is None
    done, updater, stopped = train_cached(stale=True, odd=odd)
    assert len(done) == updater.version == 1, "the second update was not made"
    assert "under version 1" in str(stopped) and "cached under older weights" in str(stopped)
    assert "allowed in float32: 0.0001 and 0.01" in str(stopped)


@pytest.mark.parametrize(
    ("engine_type", "precision", "mean", "largest", "name"),
    [
        (torch.float32, "fp32", 9e-5, 9e-3, None),
        (torch.float32, "fp32", 2e-4, 1e-3, "float32"),
        (torch.float32, "fp32", 0.0, 0.02, "float32"),
        (torch.float32, "bf16", 0.004, 0.4, None),
        (torch.bfloat16, "fp32", 0.004, 0.4, None),
        (torch.bfloat16, "bf16", 0.03, 0.2, "bfloat16"),
        (torch.float64, "bf16", 0.03, 0.2, "bfloat16"),
        (torch.bfloat16, "bf16", 0.004, 6.0, "bfloat16"),
        (torch.float16, "fp32", 0.01, 0.05, "float16"),
        (torch.float16, "bf16", 0.004, 0.4, None),
    ],
)
def test_limits_are_those_of_the_coarser_type(
    engine_type: torch.dtype, precision: Precision, mean: float, largest: float, name: str | None
) -> None:
    async def judge() -> None:
        engine = TorchEngine(small_model(dtype=engine_type), capacity_rows=2)
        forward = Forward(small_model(), max_tokens=64, precision=precision)
        try:
            mismatch = Mismatch(mean=mean, largest=largest)
            Verifier().compare(engine, forward, mismatch, rows=[row_of([1, 2], [3, 4])], version=1)
        finally:
            await engine.close()

    if name is None:
        asyncio.run(judge())
    else:
        with pytest.raises(WeightsDiffer, match=f"allowed in {name}"):
            asyncio.run(judge())


def test_weights_of_16_bits_have_fixed_limits() -> None:
    """There is nothing more exact to compare them with."""

    async def judge(mean: float) -> None:
        engine = TorchEngine(small_model(dtype=torch.bfloat16), capacity_rows=2)
        forward = Forward(small_model(dtype=torch.bfloat16), max_tokens=64)
        try:
            rows = [row_of([1, 2], [3, 4])]
            Verifier().compare(engine, forward, Mismatch(mean=mean, largest=4.0), rows=rows, version=1)
        finally:
            await engine.close()

    asyncio.run(judge(0.09))
    with pytest.raises(WeightsDiffer, match=r"allowed in bfloat16: 0\.1 and inf"):
        asyncio.run(judge(0.11))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [0.02, 0.1, 0.3])
def test_in_16_bits_rounding_is_measured(dtype: torch.dtype, width: float) -> None:
    """Where weights are wide, an honest engine is nats away; where they are not, a little is too much."""
    shape: dict[str, Any] = {"num_hidden_layers": 6, "hidden_size": 64, "initializer_range": width}
    rows, wrong = (
        [
            row_of(
                [(3 * j + i + other) % VOCABULARY for j in range(20)],
                [(7 * j + i) % VOCABULARY for j in range(10)],
            )
            for i in range(12)
        ]
        for other in (0, 1)
    )
    forward = Forward(small_model(**shape), max_tokens=256)

    async def judge(fed: list[Row]) -> None:
        engine = TorchEngine(small_model(dtype=dtype, **shape), capacity_rows=2)
        try:
            said_N = torch.cat(
                [torch.from_numpy(await engine.score(r.ids.tolist()))[r.positions] for r in fed]
            )
            with torch.no_grad():
                distance_N = (forward(rows).logp_N - said_N).abs()
            mismatch = Mismatch.of(distance_N, torch.zeros(len(distance_N)))
            Verifier().compare(engine, forward, mismatch, rows=rows, version=1)
        finally:
            await engine.close()

    asyncio.run(judge(rows))
    with pytest.raises(WeightsDiffer, match="allowed in"):
        asyncio.run(judge(wrong))


async def honest_updates(count: int, dtype: torch.dtype) -> tuple[float, float]:
    """Publish changing weights, sample under them, compare; gives the farthest mean and token."""
    engine = TorchEngine(small_model(dtype=dtype), capacity_rows=4)
    trainer, verifier = small_model(seed=1), Verifier()
    forward = Forward(trainer, max_tokens=256, precision="fp32" if dtype == torch.float32 else "bf16")
    random = torch.Generator().manual_seed(0)
    worst = 0.0, 0.0
    try:
        for number in range(count):
            share = float(10 ** torch.empty(()).uniform_(-6, -1, generator=random))
            with torch.no_grad():
                for p in trainer.parameters():
                    p.mul_((1 - share**2) ** 0.5).add_(0.3 * share * torch.randn(p.shape, generator=random))
            await verifier.publish(engine, dict(trainer.named_parameters()), number)
            prompts = [
                torch.randint(VOCABULARY, (n,), generator=random).tolist() for n in (1 + number % 9, 5)
            ]
            sampling = Sampling(max_tokens=8)
            said = [await complete(engine, p, sampling, seed=number) for p in prompts]
            rows = [row_of(p, c.ids.tolist()) for p, c in zip(prompts, said, strict=True)]
            with torch.no_grad():
                own_N = forward(rows).logp_N
            engine_N = torch.cat([torch.from_numpy(c.columns.untempered) for c in said])
            distance_N = (own_N - engine_N).abs()
            mismatch = Mismatch.of(distance_N, torch.zeros(len(distance_N)))
            verifier.compare(engine, forward, mismatch, rows=rows, version=number)
            worst = max(worst[0], mismatch.mean), max(worst[1], mismatch.largest)
    finally:
        await engine.close()
    return worst


def row_of(prompt: list[int], said: list[int]) -> Row:
    segments = Segment(kind="prompt", ids=as_ids(prompt)), Segment(kind="action", ids=as_ids(said))
    return Row.of(Context(segments=segments))


def assert_far_from_the_limits(worst: tuple[float, float], dtype: str) -> None:
    assert worst[0] < LIMITS[dtype].mean / 2 and worst[1] < LIMITS[dtype].largest / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_honest_engine_is_not_accused(dtype: torch.dtype) -> None:
    worst = asyncio.run(honest_updates(25, dtype))
    assert_far_from_the_limits(worst, str(dtype).removeprefix("torch."))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("count", "dtype"), [(10_000, torch.float32), (2_000, torch.bfloat16)])
def test_an_honest_engine_is_never_accused(count: int, dtype: torch.dtype) -> None:
    worst = asyncio.run(honest_updates(count, dtype))
    assert_far_from_the_limits(worst, str(dtype).removeprefix("torch."))
