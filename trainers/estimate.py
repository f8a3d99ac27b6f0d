"""What a run will take, before it starts."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agentrl.engine.protocol import Sampling
from agentrl.errors import ConfigError
from agentrl.registry import Worker
from agentrl.rollout.independent import Independent
from agentrl.rollout.protocol import WorkItem
from agentrl.task import derive_seed
from agentrl.trainers.batch import Row
from agentrl.trainers.plan import Plan
from agentrl.trainers.simulate import Simulated, simulate
from agentrl.trainers.student import Student

ADAM_BYTES = 8
"""Two moments in fp32 for each trained weight."""


async def estimate(student: Student, plan: Plan, worker: Worker) -> dict[str, Any]:
    """Play one group as the first step would, and say what a run of such episodes takes.

    Gives parameters, memory in MiB by purpose, the operations of a step's training, and the episodes and
    sampled tokens of the whole run. The operations are those of a step in which every episode teaches.

    Raises:
        ConfigError: No episode of the group came to an end.
    """
    recipe = plan.recipe
    rows = await play_group(student, plan, worker)
    episodes = recipe.groups_per_step * recipe.group_size
    together = max(1, recipe.groups_per_step // recipe.minibatches)
    found = simulate(student.model, filled(rows, together, student, plan), plan.update)
    memory = memory_of(student, plan, found)
    counted = sum(map(len, rows)) / recipe.group_size * episodes
    return {
        "parameters": student.num_parameters,
        "trained_parameters": found.num_trained,
        "memory_mib": {k: round(v / 2**20, 1) for k, v in memory.items()},
        "process_mib": round((resident_bytes() + added(memory)) / 2**20, 1),
        "tokens_per_step": round(counted),
        "train_flops_per_step": found.flops / found.num_fed * counted * recipe.inner_epochs,
        "episodes": recipe.steps * episodes,
        "sampled_tokens_at_most": recipe.steps * episodes * tokens_at_most(student),
    }


async def play_group(student: Student, plan: Plan, worker: Worker) -> list[Row]:
    """Play the first group of a run; gives the rows that training would see."""
    table = student.serve()
    item = WorkItem(
        task=plan.spec.tasks("train", level=plan.level, seed=plan.seed).take(1)[0],
        group_id="estimate",
        size=plan.recipe.group_size,
        seed=derive_seed("estimate", plan.seed),
        sampling=Sampling(temperature=plan.recipe.temperature),
    )
    try:
        groups = [g async for g in Independent(table=table, new_env=worker.new).collect([item])]
    finally:
        await table.engine.close()
    rows = [Row.of(context) for e in groups[0].whole for context in e.contexts]
    rows = [row for row in rows if len(row.positions)]
    if not rows:
        failures = [e.failure for e in groups[0].episodes if e.failure is not None]
        raise ConfigError(f"no episode to estimate from; the first failure: {failures[:1]}")
    return rows


def filled(rows: Sequence[Row], groups: int, student: Student, plan: Plan) -> list[Row]:
    """Give the rows of up to `groups` groups, as many as fill a pass, each group with tokens of its own."""
    vocabulary = len(student.model.get_output_embeddings().weight)
    found: list[Row] = []
    for index in range(groups):
        found += [replace(row, ids=(row.ids + index) % vocabulary) for row in rows]
        if sum(map(len, found)) > 2 * plan.update.max_tokens:
            break
    return found


def memory_of(student: Student, plan: Plan, found: Simulated) -> dict[str, int]:
    """Give bytes by purpose; the engine's cache of keys and values is left out."""
    weight = next(student.model.parameters())
    weights, gradients = (
        student.num_parameters * weight.element_size(),
        found.num_trained * weight.element_size(),
    )
    spec = plan.recipe.forward_spec()
    copied = "reference" in spec.before | spec.during and not plan.update.lora_rank
    memory = {
        "weights": weights,
        "engine_copy": weights,
        "reference": weights if copied else 0,
        "gradients": gradients,
        "optimiser": found.num_trained * ADAM_BYTES,
        "training_pass": max(0, found.peak_bytes - gradients),
    }
    return memory | {"total": sum(memory.values())}


def added(memory: dict[str, int]) -> int:
    """What is not there yet when a model has been loaded and served."""
    return sum(memory[name] for name in ("reference", "gradients", "optimiser", "training_pass"))


def resident_bytes() -> int:
    """Give the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tokens_at_most(student: Student) -> int:
    """Give the most tokens that an episode can sample."""
    return (student.limits.max_turns or 16) * student.limits.max_tokens_per_turn
