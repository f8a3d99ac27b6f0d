"""Measures policies on the same tasks: what `agentrl bench` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.contestants import Contestant, contestant, refuse_unused
from agentrl.evaluation import Attempts, bench_row, named, possible_policies
from agentrl.heldout import shortage, take_once
from agentrl.progress import Progress, SilentProgress
from agentrl.registry import EnvSpec
from agentrl.stopping import run_stoppable
from agentrl.task import Split, Task


def evaluate(
    spec: EnvSpec,
    *,
    policies: Sequence[str] | None = None,
    tasks: int = 100,
    level: int | None = None,
    split: Split = "test",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure policies on the same tasks; gives the JSON of `agentrl bench`.

    Args:
        spec: The environment.
        policies: "random", "valid-random", "expert", folders of models, or "openai:MODEL@URL" for a model
            behind an OpenAI-compatible server; without models what is possible.
        tasks: How many; all where there are fewer.
        level: Of the tasks; by default that of the environment's settings, else its lowest.
        split: Of the tasks.
        seed: Of tasks and random choices.
        settings: Of models: `temperature`, `top_p`, `max_tokens` and `dialect`; of those behind servers all
            fields of `Endpoint`, `Asking` and `Serving`.
        limits: `max_turns`, `max_context`, `turn_seconds` and `episode_seconds` of every episode, in the
            place of the usual ones.
        progress: Is told how far it is.

    Raises:
        ConfigError: An unknown policy, setting, level or split, an expert that there is not, an environment
            that cannot be made or started or whose expert fails, or a server that nobody answers at.
    """
    level = spec.level(level)
    chosen = take_once(spec.tasks(split, level=level, seed=seed), tasks)
    progress = progress or SilentProgress()
    if few := shortage(spec.name, chosen, tasks):
        progress.note(few)
    names = list(policies) if policies is not None else _default_policies(spec, progress)
    refuse_unused(names, settings or {})
    players = [(name, contestant(spec, name, settings or {}, limits)) for name in names]
    rows = []
    for name, player in players:
        found = run_stoppable(_attempt(spec, name, player, chosen, seed, progress))
        rows.append(bench_row(spec.name, level, split, name, found.episodes) | dict(found.facts))
    return {"results": rows}


def _default_policies(spec: EnvSpec, progress: Progress) -> list[str]:
    with named(spec):
        names = possible_policies(spec)
    if "expert" not in names:
        progress.note(f"{spec.name} has no expert(observations): measured without one")
    return names


async def _attempt(
    spec: EnvSpec, name: str, player: Contestant, tasks: Sequence[Task], seed: int, progress: Progress
) -> Attempts:
    progress.phase(name, len(tasks))
    async with spec.open() as worker:
        with named(spec):
            await worker.new().close()
        return await player.attempt(worker, tasks, seed, lambda _: progress.advance())
