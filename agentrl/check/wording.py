"""Episodes, tasks and actions in words, so that a finding shows its evidence."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from agentrl.check.report import Faulty
from agentrl.environment import StepResult
from agentrl.message import Action
from agentrl.task import Task

FOREIGN = frozenset({"gymnasium", "builtins", "typing", "abc", "agentrl.toolenv"})


def line_of(result: StepResult) -> str:
    """Write what is equal in equal steps; durations are not."""
    ending = "terminated" if result.terminated else "truncated" if result.truncated else "open"
    parts = dict(sorted(result.reward_parts.items()))
    return f"{result.observation.parts!r} reward {result.reward!r} {parts} {ending} correct {result.correct}"


def name_of(task: Task) -> str:
    """Name a task so that its author can start it.

    >>> name_of(Task(id="train-0-0-0", split="train", level=0, seed=7))
    'task (split train, level 0, seed 7)'
    """
    return f"task (split {task.split}, level {task.level}, seed {task.seed})"


def shown(action: Action, limit: int = 160) -> str:
    """Write an action shortly.

    >>> shown(Action(text="84"))
    "answer '84'"
    """
    calls = [f"{c.name}({', '.join(f'{k}={v!r}' for k, v in c.arguments.items())})" for c in action.calls]
    text = (
        "call " + " + ".join([*calls, *action.malformed])
        if not action.is_answer
        else f"answer {action.text!r}"
    )
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


def difference(old: Sequence[str], new: Sequence[str]) -> str | None:
    """Say where two episodes part, or None.

    >>> difference(["a", "price 12 now"], ["a", "price 13 now"])
    "turn 1: 'price 12 now' became 'price 13 now'"
    """
    for turn, (one, two) in enumerate(zip(old, new, strict=False)):
        if one != two:
            start = max(
                0, next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), 0) - 40
            )
            return f"turn {turn}: {one[start : start + 100]!r} became {two[start : start + 100]!r}"
    return None if len(old) == len(new) else f"{len(old) - 1} turns became {len(new) - 1}"


def own_source(env: Any) -> set[str]:
    """Give the source files of an environment's classes that are its author's own."""
    kinds = [k for k in type(env).__mro__ if not FOREIGN & {k.__module__, k.__module__.partition(".")[0]}]
    files = {inspect.getsourcefile(k) or "" for k in kinds}
    return files - {""}


def fail_if(fault: str | None, message: str) -> None:
    """Raise `Faulty` with what was found."""
    if fault:
        raise Faulty(f"{fault}; {message}")
