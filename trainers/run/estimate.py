"""What a run will take, before it starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from agentrl.engine.admission import CAPACITY_ROWS, kv_bytes_of
from agentrl.engine.kv import shape_of
from agentrl.engine.protocol import Sampling
from agentrl.engine.sampling import BLOCK, LARGE_BLOCK
from agentrl.errors import ConfigError
from agentrl.registry import Worker
from agentrl.rollout.closing import close_quietly
from agentrl.rollout.independent import Independent
from agentrl.rollout.protocol import WorkItem
from agentrl.task import Task, derive_seed
from agentrl.trainers.batch import Row
from agentrl.trainers.passes.head import CHUNK, output_head
from agentrl.trainers.passes.simulate import Simulated, simulate
from agentrl.trainers.policy import plan_minibatches
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.run.plan import Plan
from agentrl.trainers.run.student import Student
from agentrl.trainers.signal import PROBED
from agentrl.trainers.tiny.habits import Sloppy
from agentrl.trainers.tiny.make import Tiny
from agentrl.trainers.tiny.play import Demonstrator, context_of, expert_of, play_many

GROUPS = 4
"""Groups that are played to learn how long episodes are."""
NOISE = 0.05
"""Chance of a mistake per action where an expert plays in a model's place."""
ADAM_BYTES = 8
"""Two moments in fp32 for each trained weight."""
DRAW_BYTES = 28
"""What drawing a token takes for each logit: log-probabilities, probabilities and their sums in fp64."""
KEPT_CHUNKS = 4
"""Chunks of logits that glibc keeps on a CPU after they are freed, as it does below 32 MiB; measured at
vocabularies from 8,000 to 60,000.
"""


async def estimate(student: Student, plan: Plan, worker: Worker, tiny: Tiny | None = None) -> dict[str, Any]:
    """Play a few groups as the first step would, and say what a run of such episodes takes.

    Gives parameters, memory in MiB by purpose, the operations of a step's training, and the episodes and
    sampled tokens of all steps; the process's memory where no warm start, which takes more, comes before.
    The operations are those of a step in which every episode teaches; at most, every step samples as often as
    the recipe allows. Attempts that are made again and measurements are not counted.

    Args:
        tiny: A model without a warm start plays nothing like what will be trained on: its expert does.

    Raises:
        ConfigError: No episode came to an end.
    """
    recipe = plan.recipe
    groups = await (play_groups(student, plan, worker) if tiny is None else show_groups(tiny, plan, worker))
    episodes = recipe.groups_per_step * recipe.group_size
    found = simulate(student.model, filled(groups, student, plan), plan.update)
    memory = memory_of(student, plan, found, max(len(row) for rows in groups for row in rows))
    counted = sum(len(row) for rows in groups for row in rows) / (len(groups) * recipe.group_size) * episodes
    num_rows = round(sum(map(len, groups)) / (len(groups) * recipe.group_size) * episodes)
    most = recipe.steps * episodes * recipe.max_generations
    process = {} if tiny else {"process_mib": round((resident_bytes() + added(memory)) / 2**20, 1)}
    return process | {
        "estimated_from": source_of(plan),
        "parameters": student.num_parameters,
        "trained_parameters": found.num_trained,
        "memory_mib": {k: round(v / 2**20, 1) for k, v in memory.items()},
        "tokens_per_step": round(counted),
        "train_flops_per_step": found.flops / found.num_fed * counted * passes_of(recipe, num_rows),
        "episodes": recipe.steps * episodes,
        "episodes_at_most": most,
        "sampled_tokens_at_most": most * await tokens_at_most(student, worker),
    }


def source_of(plan: Plan) -> str:
    """Say whose episodes the figures are those of."""
    if not plan.tiny:
        return "groups that the model played"
    expert = "groups that the environment's expert played"
    if plan.strategy.kind is Independent:
        return expert
    name = plan.strategy.name
    return f"flat {expert}: what attempts share under rollout.strategy={name} is counted for each of them"


async def play_groups(student: Student, plan: Plan, worker: Worker) -> list[list[Row]]:
    """Play the first groups of a run by its own strategy; gives the rows that training would see."""
    table, rollout = student.serve(), plan.rollout
    strategy = plan.strategy.make(
        table=table, new_env=worker.new, max_episodes=rollout.max_episodes, retries=rollout.retries
    )
    work = [
        WorkItem(
            task=task,
            group_id=f"estimate-{number}",
            size=plan.recipe.group_size,
            seed=derive_seed("estimate", plan.seed, number),
            sampling=Sampling(temperature=plan.recipe.temperature),
        )
        for number, task in enumerate(first_tasks(plan))
    ]
    try:
        groups = [group async for group in strategy.collect(work)]
    finally:
        await table.engine.close()
    found = [
        [Row.of(context, episode=number) for number, e in enumerate(group.whole) for context in e.contexts]
        for group in groups
    ]
    found = [rows for rows in ([r for r in rows if len(r.positions)] for rows in found) if rows]
    if not found:
        failures = [e.failure for group in groups for e in group.episodes if e.failure is not None]
        raise ConfigError(f"no episode to estimate from; the first failure: {failures[:1]}")
    return found


async def show_groups(tiny: Tiny, plan: Plan, worker: Worker) -> list[list[Row]]:
    """Let the expert play the first groups, with a mistake now and then."""
    expert, size = expert_of(worker.spec), plan.recipe.group_size

    def make(number: int) -> Demonstrator:
        rng = np.random.default_rng(derive_seed("estimate", plan.seed, number))
        return Sloppy(expert(number), tiny.repertoire, noise=NOISE, habit=None, rng=rng)

    env = worker.new()
    try:
        groups = [
            await play_many(worker, make, [task] * size, tolerant=True, limits=tiny.limits)
            for task in first_tasks(plan)
        ]
        contexts = [[context_of(e, env, tiny.dialect) for e in played] for played in groups if played]
        rows = [[Row.of(context, episode=n) for n, context in enumerate(group)] for group in contexts]
        return [[unlike(row, len(tiny.tokenizer)) for row in group] for group in rows]
    finally:
        await env.close()


def unlike(row: Row, vocabulary: int) -> Row:
    """Make an expert's attempt differ from the others behind the prompt, as a policy's attempts do."""
    ids, begin = row.ids.copy(), int(row.positions[0])
    ids[begin:] = (ids[begin:] + row.episode) % vocabulary
    return replace(row, ids=ids)


def first_tasks(plan: Plan) -> list[Task]:
    """Give the tasks of the groups that are played."""
    tasks = plan.spec.tasks("train", level=plan.level, seed=plan.seed)
    return tasks.take(min(GROUPS, plan.recipe.groups_per_step))


def filled(groups: Sequence[Sequence[Row]], student: Student, plan: Plan) -> list[Row]:
    """Give rows as a minibatch has them, as many as fill a pass, each group with tokens of its own."""
    recipe, vocabulary = plan.recipe, len(student.model.get_output_embeddings().weight)
    rows: list[Row] = []
    for index in range(recipe.groups_per_step):
        moved, first = index // len(groups), index * recipe.group_size
        rows += [
            replace(row, ids=(row.ids + moved) % vocabulary, episode=first + row.episode)
            for row in groups[index % len(groups)]
        ]
        if (
            index + 1 >= recipe.minibatches
            and sum(map(len, rows)) > 2 * plan.update.max_tokens * recipe.minibatches
        ):
            break
    episodes = sorted({row.episode for row in rows})
    group_of = [e // recipe.group_size for e in range(episodes[-1] + 1)]
    _, chosen = plan_minibatches(rows, episodes, group_of, recipe, seed=plan.seed)[0]
    return [rows[i] for i in chosen]


def passes_of(recipe: Recipe, num_rows: int) -> float:
    """Give how often a step of so many rows passes each of its tokens forward and back.

    A pass that only scores counts a third: of old log-probabilities, which the first minibatch needs none
    for, of the reference model, and of the few rows that show how far the step has moved.
    """
    spec = recipe.forward_spec()
    reads = spec.before | spec.during
    old = 1 - 1 / recipe.minibatches if "old" in reads else 0.0
    if "old" in spec.before or "old_entropy" in reads:
        old = 1.0
    moved = min(PROBED, num_rows) / max(1, num_rows)
    return recipe.inner_epochs + (old + ("reference" in reads) + moved) / 3


def memory_of(student: Student, plan: Plan, found: Simulated, longest: int) -> dict[str, int]:
    """Give bytes by purpose; an engine's cache of keys and values is that of episodes of `longest` tokens.

    A checkpoint takes none: it is written straight from the tensors. With an adapter those, and what an
    engine is given, are copies of the weights that it is added to, between two training passes.
    """
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
        "merged": found.num_merged * weight.element_size(),
        "kv_cache": cache_bytes(student, plan, longest),
        "engine_logits": logit_bytes(student, plan),
        "allocator": kept_bytes(student, found),
    }
    total = sum(memory.values())
    if weight.device.type != "cpu":  # what a pass has freed is taken for the copies; glibc keeps most of it
        total -= min(memory["training_pass"], memory["merged"])
    return memory | {"total": total}


def added(memory: dict[str, int]) -> int:
    """What is not there yet when a model has been loaded and served."""
    return memory["total"] - memory["weights"] - memory["engine_copy"]


def cache_bytes(student: Student, plan: Plan, longest: int) -> int:
    """Give the most bytes that the engine's keys and values take, in steps or in measurements."""
    return kv_bytes_of(
        shape_of(student.model),
        requests=requests_of(plan),
        longest=longest + student.limits.max_tokens_per_turn,
        max_context=int(student.model.config.max_position_embeddings),
    )


def logit_bytes(student: Student, plan: Plan) -> int:
    """Give the bytes of the engine's logits while all requests sample, and of a block from which it draws."""
    head = output_head(student.model).weight
    logits = min(requests_of(plan), CAPACITY_ROWS) * len(head)
    return logits * head.element_size() + min(logits, BLOCK.get(head.device.type, LARGE_BLOCK)) * DRAW_BYTES


def kept_bytes(student: Student, found: Simulated) -> int:
    """Give the bytes of freed logits that do not go back to the system."""
    head = output_head(student.model).weight
    chunk = CHUNK.get(head.device.type, 0)
    return KEPT_CHUNKS * min(chunk, found.num_fed * len(head)) * head.element_size()


def requests_of(plan: Plan) -> int:
    """Give how many requests the engine gets at once, in steps or in measurements."""
    recipe = plan.recipe
    episodes = max(recipe.groups_per_step * recipe.group_size, plan.evaluation.tasks)
    return min(episodes, plan.rollout.max_episodes)


def resident_bytes() -> int:
    """Give the most memory that this process has held so far.

    Not `ru_maxrss`: that of a process that was started by a large one begins with what the large one held.
    """
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return 0 if found is None else int(found[1]) * 1024


async def tokens_at_most(student: Student, worker: Worker) -> int:
    """Give the most tokens that an episode can sample."""
    env = worker.new()
    try:
        return student.limits.turns_of(env) * student.limits.max_tokens_per_turn
    finally:
        await close_quietly(env)
