"""A training run from its settings to its folder: what `agentrl train` and `GRPOTrainer` do."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch

from agentrl.curve import curve_svg
from agentrl.dialect.protocol import Dialect
from agentrl.environment import Environment
from agentrl.errors import ConfigError
from agentrl.evaluation import for_its_author, isolation_of
from agentrl.garbage import spared
from agentrl.heldout import HeldOut, compare_splits, shortage, take_once
from agentrl.progress import Progress, SilentProgress, share
from agentrl.registry import Worker
from agentrl.rollout.independent import Independent
from agentrl.rollout.running import Table
from agentrl.rollout.watchdog import Watchdog
from agentrl.runs import RunFolder, check_name, default_name, open_run, writable
from agentrl.stopping import run_stoppable
from agentrl.store.journal import NoJournal
from agentrl.store.store import TRAIN
from agentrl.task import Split, Task, derive_seed
from agentrl.trainers.metrics import StepMetrics
from agentrl.trainers.parts import StepEnd
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.run.estimate import estimate
from agentrl.trainers.run.inspecting import inspected
from agentrl.trainers.run.keeping import Keeper, kept, restore, set_rng_state
from agentrl.trainers.run.loop import Loop
from agentrl.trainers.run.measure import Measured, measure
from agentrl.trainers.run.plan import Plan, make_plan
from agentrl.trainers.run.saving import save_folder, weights_sha256
from agentrl.trainers.run.student import Student, make_student
from agentrl.trainers.tiny.make import Tiny
from agentrl.trainers.tiny.start import warm_start
from agentrl.trainers.tiny.warm_start import WarmStartReport, WarmStartStep
from agentrl.trainers.updater import Updater

EVAL_SEED = 20_000_003
"""Held-out tasks are the same in every run, so that runs can be compared."""


def train(
    env: str | type,
    *,
    model: str = "tiny",
    algorithm: str | Callable[..., Recipe] = "grpo",
    steps: int | None = None,
    seed: int = 0,
    run: str | None = None,
    fresh: bool = False,
    settings: Mapping[str, Any] | None = None,
    dry_run: bool = False,
    inspect: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a model on an environment; gives the JSON that `agentrl train --json` ends with.

    Raises:
        ConfigError: A wrong setting, or a start from which nothing can be learnt.
        FailureBudgetSpent: Too much of the infrastructure failed.
    """
    plan = make_plan(env, model=model, algorithm=algorithm, steps=steps, seed=seed, settings=settings)
    progress = progress or SilentProgress()
    name = run or default_name(plan.spec.name, plan.recipe.name, model, seed)
    check_name(name)
    if dry_run:
        return run_stoppable(preview(plan, progress))
    folder = open_run(name, plan.config(), fresh=fresh, tell=progress.note)
    if folder.lock is None and folder.result is not None:
        refuse_inspection(folder, inspect)
        progress.note(f"{folder.path} is finished: this is its result; --fresh trains it anew")
        return folder.result
    with kept(plan, folder, progress) as keeper:
        refuse_inspection(folder, inspect and keeper.committed > 0)
        session = Session(plan=plan, folder=folder, keeper=keeper, progress=progress, inspect=inspect)
        return run_stoppable(session.run())


def refuse_inspection(folder: RunFolder, asked: bool) -> None:
    """Refuse to show the first step of a run that is behind it."""
    if asked:
        raise ConfigError(
            f"--inspect shows the first step, which {folder.path} is behind: choose another --run NAME, "
            "or --fresh to replace it"
        )


async def preview(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Resolve everything, make the model, train nothing."""
    async with plan.spec.open() as worker:
        student, tiny = await make_student(plan, worker, NoJournal())
        report = plan.config() | await estimate(student, plan, worker, tiny)
    for key, value in report.items():
        progress.note(f"{key}: {value}")
    return report


def as_it_is(env: Environment) -> Environment:
    """Change nothing."""
    return env


@dataclass(slots=True, kw_only=True)
class Session:
    """One run while it goes on."""

    plan: Plan
    folder: RunFolder
    keeper: Keeper
    progress: Progress
    inspect: bool = False
    wrap: Callable[[Environment], Environment] = as_it_is
    """Put around every environment of training and evaluation; a control may blank what tools say."""
    seconds: dict[str, float] = field(default_factory=dict)
    measured: dict[str, Measured] = field(default_factory=dict)
    steps: list[StepMetrics] = field(default_factory=list)
    stopped: str = ""
    """Why training ended before its last step; '' where it did not."""
    splits: HeldOut | None = None
    tiny: Tiny | None = None
    warm: WarmStartReport | None = None

    async def run(self) -> dict[str, Any]:
        """Train, measure, save."""
        torch.manual_seed(self.plan.seed)
        self.steps = self.keeper.steps()
        async with self.plan.spec.open() as worker:
            student = await self.make(worker)
            with spared():
                await self.look(worker)
                await self.warm_up(worker)
                async with self.serving(student) as table:
                    strategy = self.strategy(table, worker)
                    await self.evaluate("before", strategy)
                    await self.reinforce(student, table, worker)
                    await self.conclude(student, strategy)
        return self.finish(student)

    async def make(self, worker: Worker) -> Student:
        """Make or load the model."""
        with self.timed("model"):
            student, self.tiny = await make_student(self.plan, worker, self.keeper.store)
        self.progress.note(f"{self.plan.spec.name}: {describe(student, self.tiny)}, seed {self.plan.seed}")
        return student

    async def look(self, worker: Worker) -> None:
        """Say when the tasks that measure are few, or trained on as well."""
        train = self.plan.spec.tasks("train", level=self.plan.level, seed=self.plan.seed)
        test = self.held_out("test")
        if few := shortage(self.plan.spec.name, test, self.plan.evaluation.tasks):
            self.progress.note(few)
        self.splits = await compare_splits(worker, train, test)
        if self.splits.notice:
            self.progress.note(f"notice: {self.splits.notice}")

    async def warm_up(self, worker: Worker) -> None:
        """Warm-start a tiny model; a checkpoint has no warm start."""
        if self.tiny is None:
            return
        if (start := self.keeper.start()) is not None:
            restore(self.tiny.model, start)
            self.warm, self.seconds = WarmStartReport(**start["warm"]), dict(start["seconds"])
            return
        with self.timed("warm_start"), for_its_author(self.plan.spec):
            tasks = self.plan.spec.tasks(
                "train", level=self.plan.level, seed=derive_seed("warm", self.plan.seed)
            )
            self.warm = await warm_start(
                self.tiny,
                worker,
                tasks,
                seed=self.plan.seed,
                settings=self.plan.warm,
                on_step=self.warming,
                journal=self.keeper.store,
                milestones=self.keeper.milestones(),
            )
        self.keeper.save_start(self.tiny.model, warm=asdict(self.warm), seconds=self.seconds)
        self.progress.note(f"warm start: {self.warm}")

    def warming(self, step: WarmStartStep) -> None:
        """Show a step on demonstrations."""
        if step.step == 1:
            self.progress.phase(f"warm start, {step.phase}", step.steps)
        self.progress.advance({"loss": step.stats.loss})

    @contextlib.asynccontextmanager
    async def serving(self, student: Student) -> AsyncIterator[Table]:
        """Serve the model; the engine is closed whatever happens."""
        table = replace(student.serve(), watchdog=Watchdog(self.progress.note))
        try:
            yield table
        finally:
            await table.engine.close()

    def strategy(self, table: Table, worker: Worker) -> Independent:
        """Make the strategy of measurements: one attempt at each task."""
        return Independent(table=table, **self.playing(worker))

    def playing(self, worker: Worker) -> dict[str, Any]:
        """Give what every strategy is made with."""
        rollout = self.plan.rollout
        return {
            "new_env": lambda: self.wrap(worker.new()),
            "max_episodes": rollout.max_episodes,
            "retries": rollout.retries,
        }

    async def evaluate(self, name: str, strategy: Independent, split: Split = "test") -> Measured:
        """Measure on held-out tasks that are the same every time."""
        with self.timed("evaluate"):
            chosen = self.held_out(split)
            found = await measure(
                lambda how: self.keeper.recorded(strategy, f"{name}-{how}"),
                chosen,
                temperature=self.plan.recipe.temperature,
                seed=self.plan.seed,
                budget=self.plan.recipe.failures,
            )
        self.measured[name] = found
        sampled, greedy = found.sampled, found.greedy
        words = f"sampled {share(sampled.success)}, greedy {share(greedy.success)}"
        self.progress.note(f"{name}: {len(chosen)} {split} tasks: {words}")
        return found

    def held_out(self, split: Split) -> list[Task]:
        """Give the tasks of measurements: the same ones every time, whatever the seed of the run."""
        tasks = self.plan.spec.tasks(split, level=self.plan.level, seed=EVAL_SEED)
        return take_once(tasks, self.plan.evaluation.tasks)

    async def reinforce(self, student: Student, table: Table, worker: Worker) -> None:
        """Run the loop of reinforcement learning."""
        plan = self.plan
        recipe = plan.recipe.resolved(from_scratch=plan.tiny, adapter=plan.update.lora_rank > 0)
        if self.inspect:
            recipe = replace(recipe, callbacks=(*recipe.callbacks, partial(self.show, student.dialect)))
        updater = Updater(
            student.model, recipe.optimiser, total_steps=recipe.steps, update=plan.update, seed=plan.seed
        )
        strategy = plan.strategy.make(table=table, **self.playing(worker))
        loop = Loop(
            recipe=recipe,
            tasks=plan.spec.tasks("train", level=plan.level, seed=plan.seed),
            strategy=self.keeper.recorded(strategy, TRAIN, lambda: loop.next_step + 1),
            engine=table.engine,
            updater=updater,
            seed=plan.seed,
            done=self.keeper.steps(),
            commit=lambda metrics: self.keeper.commit(
                loop, metrics, self.seconds | {"train": time.perf_counter() - began}
            ),
            sinks=(self.record,),
            tell=self.progress.note,
        )
        if (state := self.keeper.found) is not None:
            loop.keep_reference()
            loop.load_state_dict(state)
            set_rng_state(state["rng"])
            self.seconds = dict(state["seconds"])
        began = time.perf_counter() - self.seconds.get("train", 0.0)
        self.progress.phase(recipe.name.upper(), recipe.steps - loop.next_step)
        with self.timed("train"):
            await loop.run()
        self.progress.close()
        updater.merge()
        self.stopped = loop.stopped
        if loop.stopped:
            self.progress.note(loop.stopped)

    def record(self, metrics: StepMetrics) -> None:
        """Show a step."""
        self.steps.append(metrics)
        shown = {
            "reward": metrics.reward_mean,
            "success": metrics.success,
            "tokens_per_second": metrics.tokens_per_second,
            "idle_share": metrics.idle_share,
            "failures": sum(metrics.failures.values()),
            **{f"{kind}_failures": count for kind, count in metrics.failures.items()},
            "failed_attempts_share": metrics.failure_share or None,
            "low_reward_failure_share": metrics.failure_share_low if metrics.failure_share else None,
            "high_reward_failure_share": metrics.failure_share_high if metrics.failure_share else None,
            "left_behind": metrics.left_behind or None,
        }
        self.progress.advance({k: float(v) for k, v in shown.items() if v is not None})

    def show(self, dialect: Dialect, end: StepEnd) -> None:
        """Print a group of the first step token by token."""
        if end.context.step == 0:
            for line in inspected(end, dialect.decode):
                self.progress.note(line)

    async def conclude(self, student: Student, strategy: Independent) -> None:
        """Write the trained model, then measure it: it is there whatever its measurement comes to."""
        with writable(self.folder.path):
            save_folder(self.folder.path / "model", *student.parts())
        await self.evaluate("after", strategy)

    def finish(self, student: Student) -> dict[str, Any]:
        """Write curve and result."""
        self.folder.write("curve.svg", self.curve())
        before, after = self.measured["before"], self.measured["after"]
        result = {
            "run": str(self.folder.path),
            "steps": len(self.steps),
            "stopped": self.stopped,
            "success_before": before.sampled.success,
            "success_after": after.sampled.success,
            "greedy_before": before.greedy.success,
            "greedy_after": after.greedy.success,
            "interval_after": list(after.sampled.interval),
            "test_in_train": None if self.splits is None else round(self.splits.share, 3),
            "weights_sha256": weights_sha256(student.model),
            "seconds": {k: round(v, 2) for k, v in self.seconds.items()},
            "episodes": sum(m.episodes for m in self.steps),
            "tool_calls": sum(m.tool_calls for m in self.steps),
            "isolation": isolation_of(after.episodes),
            "failures": self.failures(),
            "retried": dict(sum((Counter(m.retried) for m in self.steps), Counter())),
            "warm_start": None if self.warm is None else asdict(self.warm),
        }
        self.folder.write_json("result.json", result)
        return result

    def failures(self) -> dict[str, int]:
        """Count failed episodes of training and evaluation by class."""
        counts: dict[str, int] = {}
        seen = [m.failures for m in self.steps]
        for found in self.measured.values():
            seen += [found.sampled.failures, found.greedy.failures]
        for kinds in seen:
            for kind, count in kinds.items():
                counts[kind] = counts.get(kind, 0) + count
        return counts

    def curve(self) -> str:
        """Draw success over steps, with the held-out measurements at both ends."""
        points = [(m.step, m.success) for m in self.steps if m.success is not None]
        ends = [
            (x, self.measured[n])
            for x, n in ((0, "before"), (len(self.steps), "after"))
            if n in self.measured
        ]
        series: dict[str, list[tuple[float, float]]] = {
            "training tasks, sampled": [(float(x), y) for x, y in points]
        }
        series["held out, sampled"] = [(x, m.sampled.success) for x, m in ends]
        series["held out, greedy"] = [(x, m.greedy.success) for x, m in ends]
        return curve_svg(
            f"{self.plan.spec.name}: success of {self.plan.model}, seed {self.plan.seed}", series
        )

    @contextlib.contextmanager
    def timed(self, name: str) -> Any:
        """Add the time that passes to a name."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def describe(student: Student, tiny: Tiny | None) -> str:
    """Name the model in a few words."""
    if tiny is not None:
        return str(tiny)
    return f"{type(student.model).__name__}, {student.num_parameters / 1e6:.1f}M"
