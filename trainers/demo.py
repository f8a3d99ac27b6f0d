"""`agentrl demo`: a tool-using agent from scratch in under a minute, and controls that could refute it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from agentrl.engine.protocol import Sampling
from agentrl.episode import Episode
from agentrl.errors import ConfigError, unknown
from agentrl.evaluation import evaluate_model, isolation_of, score
from agentrl.garbage import spared
from agentrl.inspection import conversation
from agentrl.progress import Progress, SilentProgress, share
from agentrl.registry import Worker
from agentrl.rollout.independent import Independent
from agentrl.rollout.protocol import RolloutStrategy
from agentrl.runs import is_unfinished, open_run
from agentrl.stopping import run_stoppable
from agentrl.task import Task, derive_seed
from agentrl.trainers.controls import Blanked, ShuffledReward
from agentrl.trainers.run.keeping import kept
from agentrl.trainers.run.plan import make_plan
from agentrl.trainers.run.session import Session
from agentrl.trainers.run.student import Student
from agentrl.trainers.tiny.start import more_sft

Control = Literal["no-tool", "shuffled-reward", "more-sft"]
CONTROLS: tuple[Control, ...] = ("no-tool", "shuffled-reward", "more-sft")
RECIPE = {
    "steps": 32,
    "inner_epochs": 2,
    "stop_success": 0.96,
    "groups_per_step": 16,
    "learning_rate": 7e-4,
    "tiny.layers": 1,
    "warm.habit_batch": 128,
    "warm.habit_fresh": 8,
    "eval.tasks": 200,
}
"""Less than the defaults, to be done in under a minute on two idle cores."""
INIT_TASKS = 32
"""Tasks for the model before any training: it solves none, and says so quickly."""
SIDE_TASKS = 100
"""Tasks for the trained model with its tools blanked; as many of families that it was never trained on."""
MORE_SFT_SECONDS = 20.0
"""What reinforcement learning takes at most on two idle cores."""


def run_demo(
    *,
    seed: int = 0,
    control: str | None = None,
    unsafe_local: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train from scratch on the code environment, level 0, and show before and after.

    Args:
        seed: Every random choice follows from it.
        control: "no-tool": what tools say is blanked in reinforcement learning and evaluation, so whoever
            learns did not read it; "shuffled-reward": rewards are dealt out at random, so whoever learns did
            not need them; "more-sft": more demonstrations of the same mixture in the place of reinforcement
            learning, so whoever learns needed time alone.
        unsafe_local: Run the model's code without a sandbox.
        progress: Is told what happens.

    Raises:
        ConfigError: No sandbox works here, or an unknown control.
    """
    if control is not None and control not in CONTROLS:
        raise ConfigError(unknown("control", control, CONTROLS))
    began = time.perf_counter() - process_seconds()
    settings: dict[str, Any] = {"env.isolation": "none"} if unsafe_local else {}
    plan = make_plan("code", seed=seed, settings=RECIPE | settings)
    if control == "shuffled-reward":
        plan = replace(plan, recipe=replace(plan.recipe, reward_transforms=(ShuffledReward(seed=seed),)))
    name = f"demo-{seed}" if control is None else f"demo-{control}-{seed}"
    config = plan.config() | {"control": control}
    again = control == "more-sft" or not is_unfinished(name, config)  # its seconds cannot be continued
    progress = progress or SilentProgress()
    folder = open_run(name, config, fresh=again, tell=progress.note)
    with kept(plan, folder, progress) as keeper:
        session = Session(plan=plan, folder=folder, keeper=keeper, progress=progress)
        demo = Demo(session=session, control=control, began=began)
        result = run_stoppable(demo.run())
    for line in demo.report(result):
        progress.note(line)
    return result


@dataclass(slots=True, kw_only=True)
class Demo:
    """One demonstration."""

    session: Session
    control: str | None
    began: float
    extra: dict[str, float] = field(default_factory=dict)

    async def run(self) -> dict[str, Any]:
        """Warm-start, train, measure."""
        session = self.session
        if self.control == "no-tool":
            session.wrap = Blanked  # type: ignore[assignment]
        async with session.plan.spec.open() as worker:
            student = await session.make(worker)
            with spared():
                self.extra["init"] = await self.untrained(student, worker)
                await session.warm_up(worker)
                async with session.serving(student) as table:
                    strategy = session.strategy(table, worker)
                    await session.evaluate("before", strategy)
                    await self.teach(student, strategy, worker)
                    await session.conclude(student, strategy)
                    self.extra["ood"] = await self.longer_chains(strategy)
                    self.extra["blanked"] = await self.without_tools(strategy)
        return self.result(session.finish(student))

    async def untrained(self, student: Student, worker: Worker) -> float:
        """Measure the random weights."""
        async with self.session.serving(student) as table:
            tasks = self.session.held_out("test")[:INIT_TASKS]
            return await self.success("init", self.session.strategy(table, worker), tasks)

    async def success(self, phase: str, strategy: RolloutStrategy, tasks: Sequence[Task]) -> float:
        """Measure once, sampled."""
        with self.session.timed("evaluate"):
            recorded = self.session.keeper.recorded(strategy, phase)
            return score(await evaluate_model(recorded, tasks, sampling=Sampling())).success

    async def teach(self, student: Student, strategy: Independent, worker: Worker) -> None:
        """Reinforcement learning, or the control in its place."""
        plan, tiny = self.session.plan, self.session.tiny
        if self.control == "more-sft":
            assert tiny is not None
            with self.session.timed("train"):
                seed = derive_seed("more", plan.seed)
                tasks = plan.spec.tasks("train", level=plan.level, seed=seed)
                await more_sft(tiny, worker, tasks, seconds=MORE_SFT_SECONDS, seed=plan.seed)
            await strategy.table.engine.update(dict(student.model.named_parameters()), version=1)
        else:
            await self.session.reinforce(student, strategy.table, worker)

    async def longer_chains(self, strategy: Independent) -> float:
        """Measure on families that were never trained on."""
        return await self.success("ood", strategy, self.session.held_out("ood")[:SIDE_TASKS])

    async def without_tools(self, strategy: Independent) -> float:
        """Measure the trained model with everything that tools say blanked."""
        deaf = replace(strategy, new_env=lambda: blank(strategy.new_env()))
        return await self.success("blanked", deaf, self.session.held_out("test")[:SIDE_TASKS])

    def result(self, trained: dict[str, Any]) -> dict[str, Any]:
        """Give the JSON of the demo."""
        seconds = self.session.seconds
        total = time.perf_counter() - self.began
        names = ("model", "warm_start", "train", "evaluate")
        return {
            "seed": self.session.plan.seed,
            "control": self.control,
            "success_init": self.extra["init"],
            **{k: trained[k] for k in ("success_before", "success_after", "greedy_before", "greedy_after")},
            "ood_after": self.extra["ood"],
            "blanked_after": self.extra["blanked"],
            "seconds": {n: round(seconds.get(n, 0.0), 2) for n in names} | {"total": round(total, 2)},
            **{k: trained[k] for k in ("steps", "episodes", "tool_calls")},
            "isolation": isolation_of(self.session.measured["before"].episodes),
            "failures": trained["failures"],
            "warm_start": trained["warm_start"],
            "run": trained["run"],
        }

    def report(self, result: dict[str, Any]) -> Iterable[str]:
        """Give what a person reads at the end."""
        found = self.session.measured
        before, after = found["before"], found["after"]
        yield ""
        yield f"  {self.session.plan.evaluation.tasks} held-out tasks      before   after"
        blanked = f"   tools blanked: {share(result['blanked_after'])}"
        yield row("sampled", before.sampled.success, after.sampled.success) + blanked
        yield row("greedy", before.greedy.success, after.greedy.success)
        yield f"    {'longer chains (ood)':<24}{'':>8}{share(result['ood_after']):>8}"
        if (warm := self.session.warm) is not None:
            yield f"    taught before by demonstrations: well ({share(warm.skill)}), a habit on top"
        yield ""
        yield from compare(before.episodes, after.episodes)
        yield ""
        run = Path(result["run"])
        total = result["seconds"]["total"]
        yield f"  {total:.0f} s in all   sandbox: {result['isolation']}   {result['tool_calls']} tool calls"
        yield f"  curve: {run / 'curve.svg'}   model: {run / 'model'}"
        yield "  next: agentrl new my_env"


def blank(env: Any) -> Any:
    """Blank an environment that is not blanked yet."""
    return env if isinstance(env, Blanked) else Blanked(env)


def row(name: str, before: float, after: float) -> str:
    """Give one line of the table."""
    return f"    {name:<24}{share(before):>8}{share(after):>8}"


def compare(before: Iterable[Episode], after: Iterable[Episode]) -> Iterable[str]:
    """Show one task that was not solved before and is now."""
    pairs = list(zip(before, after, strict=True))
    old, new = next(((b, a) for b, a in pairs if not b.correct and a.correct), pairs[0])
    yield f"  {old.first.text}"
    yield f"    before   {one_line(old)}"
    yield f"    after    {one_line(new)}"


def one_line(episode: Episode) -> str:
    """Write an episode in one line."""
    words = [text for who, text in conversation(episode) if who != "task"]
    mark = "✓" if episode.correct else "✗"
    return "  →  ".join(" ".join(w.split()) for w in words) + f"   {mark}"


def process_seconds() -> float:
    """Give how long this process has lived, its imports included."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / 100
