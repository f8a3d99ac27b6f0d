"""A loop with a real engine on the smallest task there is, and a loop whose episodes are given."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from agentrl.engine.complete import complete
from agentrl.engine.protocol import Engine, Sampling
from agentrl.engine.scripted import ScriptedEngine
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import Context, Episode, Group, Segment, as_ids
from agentrl.rollout.protocol import WorkItem
from agentrl.task import SeededTasks, derive_seed
from agentrl.trainers.grpo import grpo
from agentrl.trainers.metrics import StepMetrics
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.run.loop import Loop
from agentrl.trainers.run.saving import weights_sha256
from agentrl.trainers.updater import Updater
from tests.trainers.making import context, episode, small_model

PAYS = 5
FEW = Sampling(max_tokens=2)


@dataclass
class Say:
    """A strategy whose episodes are two sampled tokens; each that is `PAYS` pays a half."""

    engine: Engine
    closed: list[str] = field(default_factory=list)

    async def collect(self, work: Sequence[WorkItem]) -> AsyncIterator[Group]:
        try:
            for item in reversed(work):
                attempts = [self._attempt(item, index) for index in range(item.size)]
                yield Group(id=item.group_id, episodes=tuple(await asyncio.gather(*attempts)))
        finally:
            self.closed.append("closed")

    async def _attempt(self, item: WorkItem, index: int) -> Episode:
        prompt = as_ids([1, 2 + item.task.seed % 2])
        said = await complete(self.engine, prompt.tolist(), item.sampling, seed=derive_seed(item.seed, index))
        segments = (
            Segment(kind="prompt", ids=prompt),
            Segment(kind="action", ids=said.ids, columns=said.columns),
        )
        reward = float((said.ids == PAYS).mean())
        name = f"{item.group_id}/{index}"
        return replace(
            episode(name, reward, Context(segments=segments), correct=reward == 1), group_id=item.group_id
        )


@dataclass
class Given:
    """A strategy that gives the same episodes at every step."""

    make: Callable[[WorkItem, int], Episode]
    closed: list[str] = field(default_factory=list)

    async def collect(self, work: Sequence[WorkItem]) -> AsyncIterator[Group]:
        with contextlib.ExitStack() as stack:
            stack.callback(self.closed.append, "closed")
            for item in work:
                yield Group(id=item.group_id, episodes=tuple(self.make(item, i) for i in range(item.size)))


def run_say(seed: int, *, steps: int = 12, recipe: Recipe | None = None) -> tuple[list[StepMetrics], str]:
    recipe = recipe or grpo(steps=steps, groups_per_step=4, group_size=8, learning_rate=2e-2, warmup_steps=0)
    recipe = recipe.resolved(from_scratch=False)

    async def run() -> tuple[list[StepMetrics], str]:
        engine = TorchEngine(small_model(), capacity_rows=32)
        try:
            updater = Updater(small_model(seed=1), recipe.optimiser, total_steps=recipe.steps, seed=seed)
            loop = Loop(
                recipe=recipe,
                tasks=SeededTasks(seed=seed),
                strategy=Say(engine),
                engine=engine,
                updater=updater,
                seed=seed,
                sampling=FEW,
            )
            return await loop.run(), weights_sha256(updater.model)
        finally:
            await engine.close()

    return asyncio.run(run())


def run_given(
    make: Callable[[WorkItem, int], Episode], recipe: Recipe, *, engine: Engine | None = None
) -> tuple[list[StepMetrics], Loop]:
    recipe = recipe.resolved(from_scratch=True)
    loop = Loop(
        recipe=recipe,
        tasks=SeededTasks(),
        strategy=Given(make),
        engine=engine or ScriptedEngine([]),
        updater=Updater(small_model(), recipe.optimiser, total_steps=recipe.steps),
    )
    return asyncio.run(loop.run()), loop


def one_action(reward: float) -> Callable[[WorkItem, int], Episode]:
    def make(item: WorkItem, index: int) -> Episode:
        return replace(
            episode(f"{item.group_id}/{index}", reward, context(index, [2])), group_id=item.group_id
        )

    return make
