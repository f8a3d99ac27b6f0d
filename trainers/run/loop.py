"""The loop of reinforcement learning: a fixed order of stages, each of them a part of the recipe."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import Tensor

from agentrl.engine.protocol import Engine, Sampling
from agentrl.episode import Group, ScoredGroup
from agentrl.errors import ConfigError
from agentrl.left_behind import LEFT_BEHIND
from agentrl.rollout.protocol import RolloutStrategy, WorkItem
from agentrl.task import TaskSource, derive_seed
from agentrl.torch_threads import torch_threads
from agentrl.trainers.batch import Row, TrainBatch, make_batch
from agentrl.trainers.checkpoints import load_weights
from agentrl.trainers.failures import FailureShares, FailureWatch
from agentrl.trainers.metrics import RolloutStats, StepMetrics
from agentrl.trainers.parts import Mismatch, StepContext, StepEnd
from agentrl.trainers.policy import PolicyStats
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.signal import Signal
from agentrl.trainers.updater import Updater
from agentrl.trainers.verify import Verifier

Sink = Callable[[StepMetrics], None]
Commit = Callable[[StepMetrics], Awaitable[None]]


async def keep_nothing(metrics: StepMetrics) -> None:
    """Commit nothing: a crash loses the run."""


@dataclass(slots=True, kw_only=True)
class Loop:
    """Samples, scores, trains and publishes, step by step; a run is a function of its seed.

    Attributes:
        sampling: Of the engine; the temperature is the recipe's.
        commit: Makes a finished step last; `state_dict` is what a resumed run needs.
        sinks: Called with the metrics of each step once it is committed: progress line, TensorBoard.
        next_step: The step that comes next, counted from 0; above 0 when a run is resumed.
        done: Metrics of all steps so far; with those before the interruption when a run is resumed.
        tell: Is given a line on the first failure of each kind.
        stopped: Why the run ended before its last step; '' where it did not.
        state: What parts keep from step to step.
    """

    recipe: Recipe
    tasks: TaskSource
    strategy: RolloutStrategy
    engine: Engine
    updater: Updater
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    commit: Commit = keep_nothing
    sinks: tuple[Sink, ...] = ()
    next_step: int = 0
    done: list[StepMetrics] = field(default_factory=list)
    stopped: str = ""
    state: dict[str, dict[str, Any]] = field(default_factory=dict)
    tell: Callable[[str], None] = logging.getLogger("agentrl").warning
    watch: FailureWatch = field(init=False)
    verifier: Verifier = field(default_factory=Verifier)

    def __post_init__(self) -> None:
        capabilities = self.engine.capabilities
        if not (capabilities.returns_ids and capabilities.logprobs and capabilities.update):
            raise ConfigError(
                f"{type(self.engine).__name__} cannot train: it needs token ids, log-probs and new weights"
            )
        self.watch = FailureWatch(self.recipe.failures, self.tell)

    async def run(self) -> list[StepMetrics]:
        """Run the steps that are left, as long as the recipe does not stop; gives the metrics of all steps.

        Raises:
            FailureBudgetSpent: Too many episodes failed.
            WeightsDiffer: Engine and trainer do not have the same policy.
            NonFiniteError: A loss or gradient is not finite.
        """
        await self.prepare()
        self.stopped = self._reason_to_stop() if self.done else ""
        while self.next_step < self.recipe.steps and not self.stopped:
            await self.step()
            self.stopped = self._reason_to_stop()
        return self.done

    def _reason_to_stop(self) -> str:
        stop = self.recipe.stop
        if stop == "auto":
            raise ConfigError("recipe.stop is 'auto': call recipe.resolved(from_scratch=…) first")
        left = self.recipe.steps - self.next_step
        return (stop and left and stop(self.done)) or ""

    async def prepare(self) -> None:
        """Give the engine the trainer's weights, and keep the reference model where there is none yet."""
        self.keep_reference()
        await self._publish()

    def keep_reference(self) -> None:
        """Keep the present weights as the reference model, if a part reads one and there is none."""
        spec = self.recipe.forward_spec()
        if "reference" in spec.before | spec.during and self.updater.reference is None:
            self.updater.keep_reference()

    async def step(self) -> StepEnd:
        """Run one step."""
        begin = time.perf_counter()
        busy = _busy_seconds(self.engine)
        context = self._context()
        groups, scored = await self._gather(context)
        collected = time.perf_counter()
        train = torch_threads(self.updater.threads)(self._train)
        batch, advantage_N, stats = await asyncio.to_thread(train, scored, context)
        trained = time.perf_counter()
        if not stats.skipped:
            await self._publish()
        clock = Clock(begin, collected, trained, time.perf_counter(), _since(busy, self.engine))
        metrics = self._metrics(groups, scored, batch, advantage_N, stats, clock, context)
        self.next_step += 1
        end = StepEnd(
            metrics=metrics,
            batch=batch,
            advantage_N=advantage_N,
            groups=groups,
            updater=self.updater,
            context=context,
        )
        for callback in self.recipe.callbacks:
            callback(end)
        await self.commit(metrics)
        for sink in self.sinks:
            sink(metrics)
        self.done.append(metrics)
        return end

    async def _publish(self) -> None:
        await self.verifier.publish(self.engine, self.updater.named_tensors(), self.updater.version)

    def _judge(self, mismatch: Mismatch, rows: Sequence[Row]) -> None:
        """Stop where engine and trainer give other probabilities under the same weights."""
        whole = self.sampling.top_p == 1.0 and self.sampling.top_k == 0
        if rows and (whole or self.recipe.temperature == 1.0):
            self.verifier.compare(
                self.engine,
                self.updater.forward,
                mismatch,
                rows=rows,
                temperature=self.recipe.temperature,
                version=self.updater.version,
            )

    def state_dict(self) -> dict[str, Any]:
        """Give all that the next step depends on, weights included."""
        return {
            "next_step": self.next_step,
            "position": self.tasks.position,
            "parts": self.state,
            "attempts": self.watch.state_dict(),
            "updater": self.updater.state_dict(),
            "weights": self.updater.named_tensors(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the step that `state_dict` was taken at; a reference model must be kept before."""
        self.next_step, self.tasks.position = int(state["next_step"]), int(state["position"])
        self.state.clear()
        self.state.update(state["parts"])
        self.watch.load_state_dict(state["attempts"])
        load_weights(self.updater.named_tensors(), state["weights"])
        self.updater.load_state_dict(state["updater"])

    def _context(self) -> StepContext:
        return StepContext(
            step=self.next_step,
            num_steps=self.recipe.steps,
            version=self.updater.version,
            scorer=lambda rows: self.updater.score(rows, temperature=self.recipe.temperature, entropy=True),
            judge=self._judge,
            state=self.state,
            comm=self.updater.comm,
        )

    async def _gather(self, context: StepContext) -> tuple[tuple[Group, ...], list[ScoredGroup]]:
        """Sample and score, again as often as the recipe allows where transforms have left out groups."""
        groups: tuple[Group, ...] = ()
        scored: list[ScoredGroup] = []
        for _ in range(self.recipe.max_generations):
            missing = self.recipe.groups_per_step - sum(bool(group.episodes) for group in scored)
            if not missing:
                break
            found = await self._collect(self._work(missing, first=len(groups)))
            groups += found
            scored += self._score(found, context)
        return groups, scored

    def _work(self, count: int, *, first: int) -> list[WorkItem]:
        step, recipe = self.next_step, self.recipe
        sampling = replace(self.sampling, temperature=recipe.temperature)
        return [
            WorkItem(
                task=task,
                group_id=f"{step}-{index}-{task.id}",
                size=recipe.group_size,
                seed=derive_seed("train", self.seed, step, index),
                sampling=sampling,
            )
            for index, task in enumerate(self.tasks.take(count), first)
        ]

    async def _collect(self, work: list[WorkItem]) -> tuple[Group, ...]:
        """Gather the groups; their order is that of the work, whichever finished first."""
        groups: list[Group] = []
        async with aclosing(cast(Any, self.strategy.collect(work))) as finished:
            async for group in finished:
                self.watch.add(*group.episodes)
                groups.append(group)
        place = {item.group_id: index for index, item in enumerate(work)}
        return tuple(sorted(groups, key=lambda g: place.get(g.id, len(place))))

    def _score(self, groups: tuple[Group, ...], context: StepContext) -> list[ScoredGroup]:
        scored = [self.recipe.score(group, context) for group in groups]
        for transform in (*self.recipe.reward_transforms, *self.recipe.group_transforms):
            scored = [transform(group, context) for group in scored]
        return scored

    def _train(
        self, scored: list[ScoredGroup], context: StepContext
    ) -> tuple[TrainBatch, Tensor, PolicyStats]:
        recipe = self.recipe
        masked = {e.episode.id for g in scored for e in g.episodes if e.episode.truncated}
        batch = make_batch(
            [g for g in scored if g.episodes],
            masked=frozenset(masked) if recipe.truncation == "mask" else frozenset(),
        )
        batch = self.updater.annotate(batch, recipe.forward_spec(), temperature=recipe.temperature)
        advantage_N = recipe.advantage(batch, context)
        for shaper in recipe.shapers:
            advantage_N = shaper(advantage_N, batch, context)
        return batch, advantage_N, self.updater.policy_step(batch, advantage_N, recipe, context)

    def _metrics(
        self,
        groups: tuple[Group, ...],
        scored: list[ScoredGroup],
        batch: TrainBatch,
        advantage_N: Tensor,
        stats: PolicyStats,
        clock: Clock,
        context: StepContext,
    ) -> StepMetrics:
        seen = RolloutStats.of(groups, version=context.version)
        failed = FailureShares.of(groups)
        teaching = set(batch.group_E[batch.episode_N[advantage_N != 0]].tolist())
        uses_advantage = getattr(self.recipe.surrogate, "uses_advantage", True)
        signal = Signal.of(batch, advantage_N, uses_advantage=uses_advantage)
        return StepMetrics(
            step=context.step + 1,
            steps=self.recipe.steps,
            version=self.updater.version,
            reward_mean=seen.reward_mean,
            success=seen.success,
            episodes=seen.episodes,
            tool_calls=seen.tool_calls,
            failures=seen.failures,
            retried=seen.retried,
            failure_share=failed.share,
            failure_share_low=failed.low,
            failure_share_high=failed.high,
            left_behind=len(LEFT_BEHIND),
            dropped=_count_dropped(scored),
            truncated_share=seen.truncated_share,
            groups=len(groups),
            zero_variance_groups=len(groups) - len(teaching),
            skipped=stats.skipped,
            sampled_tokens=seen.sampled_tokens,
            trained_tokens=stats.num_tokens,
            tokens_per_second=seen.sampled_tokens / clock.step_seconds,
            rollout_seconds=clock.collected - clock.begin,
            train_seconds=clock.trained - clock.collected,
            step_seconds=clock.step_seconds,
            idle_share=clock.idle_share,
            entropy=seen.entropy,
            staleness=seen.staleness,
            loss=stats.loss,
            clip_share=stats.clip_share,
            grad_norm=stats.grad_norm,
            mismatch_mean=stats.mismatch_mean,
            mismatch_max=stats.mismatch_max,
            learning_rate=stats.learning_rate,
            records={**context.records, **stats.records},
            mismatch_first=stats.mismatch_first,
            foreign_share=signal.foreign_share,
            masked_share=signal.masked_share,
            direction=signal.direction,
            moved=stats.moved,
            moved_right=stats.moved_right,
        )


@dataclass(frozen=True, slots=True)
class Clock:
    """When the parts of a step ended, in seconds of `time.perf_counter`."""

    begin: float
    collected: float
    trained: float
    published: float
    engine_seconds: float | None
    """Time that the engine worked during the step."""

    @property
    def step_seconds(self) -> float:
        """The whole step."""
        return self.published - self.begin

    @property
    def idle_share(self) -> float | None:
        """Share in which neither engine nor trainer worked."""
        if self.engine_seconds is None:
            return None
        worked = self.engine_seconds + self.trained - self.collected
        return max(0.0, 1 - worked / self.step_seconds)


def _busy_seconds(engine: object) -> float | None:
    """Time that an engine has worked so far, if it keeps count."""
    seconds = getattr(getattr(engine, "stats", None), "busy_seconds", None)
    return None if seconds is None else float(seconds)


def _since(before: float | None, engine: object) -> float | None:
    now = _busy_seconds(engine)
    return None if now is None or before is None else now - before


def _count_dropped(scored: list[ScoredGroup]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for group in scored:
        for reason, count in group.dropped.items():
            counts[reason] = counts.get(reason, 0) + count
    return counts
