"""Short real training runs from a model that was warm-started once, with something wrong or nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentrl.checkpoint import Manner
from agentrl.diagnose.evidence import Evidence
from agentrl.diagnose.finding import Finding
from agentrl.diagnose.ranking import diagnose
from agentrl.diagnose.reading import read_evidence
from agentrl.engine.protocol import Engine
from agentrl.errors import InfrastructureError
from agentrl.progress import SilentProgress
from agentrl.registry import EnvSpec
from agentrl.rollout.protocol import Limits, RolloutStrategy
from agentrl.rollout.running import Table
from agentrl.runs import open_run
from agentrl.stopping import run_stoppable
from agentrl.store.inventory import find_run
from agentrl.trainers.grpo import grpo
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.run.keeping import kept
from agentrl.trainers.run.plan import make_plan
from agentrl.trainers.run.saving import save_folder
from agentrl.trainers.run.session import Session
from agentrl.trainers.run.strategies import StrategyPlan
from agentrl.trainers.run.student import Student
from agentrl.trainers.tiny.make import make_tiny
from agentrl.trainers.tiny.start import warm_start

SMALL = {
    "steps": 8,
    "stop_success": 0,
    "groups_per_step": 8,
    "group_size": 8,
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "final_rate": 1.0,
    "eval.tasks": 8,
}
"""A healthy run of a few seconds: from about a quarter of success to nearly all."""


def same(thing: Any) -> Any:
    """Change nothing."""
    return thing


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A run: what is changed of the healthy one, by parts that a user could write."""

    env: type
    settings: dict[str, Any]
    recipe: Callable[[Recipe], Recipe] = same
    engine: Callable[[Engine], Engine] = same
    strategy: Callable[[RolloutStrategy], RolloutStrategy] = same


@dataclass(slots=True, kw_only=True)
class Served(Session):
    """A session whose engine goes through the case's hands."""

    case: Case

    @contextlib.asynccontextmanager
    async def serving(self, student: Student) -> AsyncIterator[Table]:
        async with Session.serving(self, student) as table:
            yield replace(table, engine=self.case.engine(table.engine))


def play(case: Case, folder: Path, model: Path, *, seed: int = 0) -> Path:
    """Train; gives the run's folder, also where the run gave up."""

    def algorithm(**settings: Any) -> Recipe:
        return case.recipe(grpo(**settings))

    algorithm.__name__ = "grpo"
    settings = SMALL | case.settings
    own = {k: v for k, v in settings.items() if "." not in k}
    others = {k: v for k, v in settings.items() if "." in k}
    plan = make_plan(case.env, model=str(model), seed=seed, settings=others)
    made = plan.strategy
    strategy = StrategyPlan(
        name=made.name, kind=lambda **given: case.strategy(made.kind(**given)), settings=made.settings
    )
    plan = replace(plan, recipe=algorithm(**own), strategy=strategy)
    run = open_run(str(folder / f"{case.env.__name__}-{seed}"), plan.config())
    with (
        contextlib.suppress(InfrastructureError, ArithmeticError),
        kept(plan, run, SilentProgress()) as keeper,
    ):
        run_stoppable(
            Served(plan=plan, folder=run, keeper=keeper, progress=SilentProgress(), case=case).run()
        )
    return run.path


def examine(folder: Path) -> tuple[Evidence, list[Finding]]:
    """Read and diagnose a run."""
    evidence = read_evidence(find_run(str(folder)))
    return evidence, diagnose(evidence)


def started(env: type, folder: Path, *, seed: int = 0) -> Path:
    """Warm-start a tiny model on an environment, and write it down as a checkpoint."""

    async def make() -> Any:
        spec = EnvSpec(name=env.__name__, kind=env)
        async with spec.open() as worker:
            tiny = await make_tiny(worker, spec.tasks("train", seed=seed + 1), seed=seed)
            await warm_start(tiny, worker, spec.tasks("train", seed=seed + 2), seed=seed)
            return tiny

    tiny = asyncio.run(make())
    limits = Limits(max_tokens_per_turn=tiny.max_tokens_per_turn, max_turns=tiny.max_turns)
    return save_folder(folder / env.__name__, tiny.model, tiny.tokenizer, Manner(limits=limits))
