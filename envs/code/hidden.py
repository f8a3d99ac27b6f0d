"""Hidden tests: inputs out of the task's own words, chosen so that programs with a slip in them fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agentrl.envs.code.judge import Case
from agentrl.envs.code.mutants import Mutant, mutants
from agentrl.task import derive_seed

Input = Callable[[np.random.Generator], Any]
Function = Callable[..., Any]
NUM_CASES = 8
"""Hidden tests that a task has at least."""
NUM_RANDOM = 4
"""Hidden tests of one function that are taken as they come."""
NUM_DRAWN = 50
"""Inputs among which those are looked for that show a slip."""


def inputs_of(text: str, make: Input) -> tuple[Any, list[Any]]:
    """Draw an example and inputs of hidden tests, all different, out of the text: equal words, equal task."""
    rng = np.random.default_rng(derive_seed(text))
    drawn: list[Any] = []
    for _ in range(NUM_DRAWN):
        if (one := make(rng)) not in drawn:
            drawn.append(one)
    return drawn[0], drawn[1:]


def cases_of(name: str, function: Function, inputs: Sequence[Any]) -> tuple[Case, ...]:
    """Compute what the hidden tests expect."""
    return tuple(Case(function=name, arguments=(one,), expected=function(one)) for one in inputs)


def choose(source: str, first: Sequence[Case], more: Sequence[Case]) -> tuple[Case, ...] | None:
    """Give the hidden tests of a task: `first`, and of `more` what shows the slips that `first` lets pass.

    None where they would be no fair tests: a step or a branch of the program changes no result at all, or a
    constant passes more than half.

    Args:
        source: A right program.
        first: Tests that are taken in any case.
        more: Tests to choose from; one that `first` has is not among them.
    """
    chosen = list(first)
    for wrong in mutants(source):
        if not passes_all(wrong, chosen):
            continue
        telling = next((case for case in more if not passes_all(wrong, [case])), None)
        if telling is not None:
            chosen.append(telling)
        elif wrong.vital:
            return None
    left = [case for case in more if case not in chosen]
    chosen += left[: max(0, NUM_CASES - len(chosen))]
    return tuple(chosen) if tells_apart(chosen) else None


def passes_all(wrong: Mutant, cases: Sequence[Case]) -> bool:
    """Whether a wrong program passes tests."""
    return all(wrong.passes(case.function, case.arguments, case.expected) for case in cases)


def tells_apart(cases: Sequence[Case]) -> bool:
    """Whether no constant passes more than half of the tests."""
    shown = [repr(case.expected) for case in cases]
    return max(map(shown.count, shown)) <= len(shown) // 2
