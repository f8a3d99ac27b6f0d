"""What a run will take, before it starts."""

from __future__ import annotations

from typing import Any

from agentrl.trainers.plan import Plan
from agentrl.trainers.student import Student

ADAM_BYTES = 8
"""Two moments in fp32 for each weight."""


def estimate(student: Student, plan: Plan) -> dict[str, Any]:
    """Give parameters, memory in MiB by purpose, and the episodes and tokens of the whole run at most.

    Memory of activations is left out: it depends on how a batch is cut.
    """
    parameters = student.num_parameters
    each = next(student.model.parameters()).element_size()
    turns = student.limits.max_turns or 16
    episodes = plan.recipe.groups_per_step * plan.recipe.group_size
    memory = {
        "weights": parameters * each,
        "engine_copy": parameters * each,
        "gradients": parameters * each,
        "optimiser": parameters * ADAM_BYTES,
    }
    return {
        "parameters": parameters,
        "memory_mib": {k: round(v / 2**20, 1) for k, v in memory.items()},
        "episodes": plan.recipe.steps * episodes,
        "sampled_tokens_at_most": plan.recipe.steps * episodes * turns * student.limits.max_tokens_per_turn,
    }
