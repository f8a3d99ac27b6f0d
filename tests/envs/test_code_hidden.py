"""The hidden tests of programs: what they let pass, what they leave out, what they cost."""

from typing import Any

import numpy as np
import pytest

from agentrl.envs.code import functions
from agentrl.envs.code.families import all_families
from agentrl.envs.code.hidden import cases_of, choose, passes_all
from agentrl.envs.code.language import LANGUAGE
from agentrl.envs.code.ledger import LEDGER
from agentrl.envs.code.machine import MACHINE
from agentrl.envs.code.mutants import mutants
from agentrl.envs.code.problem import Family, Problem
from agentrl.envs.code.ranking import RANKING

SEEDS = 30
PROGRAMS: tuple[Family, ...] = (*functions.TRAIN, *functions.OOD, RANKING, MACHINE, LANGUAGE, LEDGER)
NAMES = ["numbers", "words", "rule", "pairs", "ranking", "machine", "language", "ledger"]
PAIRED = list(zip(PROGRAMS, NAMES, strict=True))


def source_of(family: Family, problem: Problem) -> str:
    action = family.act(problem.text, ["tried"])
    assert action is not None
    return action.text


def far_inputs(family: Family, name: str) -> list[Any]:
    """Inputs that had no part in the choice of the tests."""
    make = functions.draw_numbers if name == "ranking" else getattr(family, "make", functions.draw_number)
    rng = np.random.default_rng(7)
    return [make(rng) for _ in range(400)]


def space_of(source: str) -> dict[str, Any]:
    space: dict[str, Any] = {}
    exec(source, space)
    return space


@pytest.mark.parametrize(("family", "name"), PAIRED, ids=NAMES)
def test_programs_with_a_slip_fail(family: Family, name: str) -> None:
    """Of all mutants of right programs at most 1 in 20 passes and differs somewhere else."""
    far, total, passed = far_inputs(family, name), 0, 0
    for seed in range(SEEDS):
        problem = family.draw(np.random.default_rng(seed))
        source = source_of(family, problem)
        right = space_of(source).get("best" if name == "ranking" else "f")
        for wrong in mutants(source):
            total += 1
            if passes_all(wrong, problem.cases):
                assert not wrong.vital, (problem.text, seed)
                # machine, language and ledger: no slip at all may pass
                other = cases_of("best" if name == "ranking" else "f", right, far) if right else ()
                passed += not other or not passes_all(wrong, other)
    assert total >= 10 * SEEDS and passed <= 0.05 * total


def test_every_family_of_programs_is_looked_at() -> None:
    rng = np.random.default_rng(0)
    assert {*PROGRAMS} == {family for family in all_families() if family.draw(rng).cases}


@pytest.mark.parametrize(("family", "name"), PAIRED, ids=NAMES)
def test_tests_are_few(family: Family, name: str) -> None:
    problems = [family.draw(np.random.default_rng(seed)) for seed in range(SEEDS)]
    assert all(8 <= len(problem.cases) <= 20 for problem in problems)


def test_slips_by_hand() -> None:
    source = "def f(n):\n    if n > 3:\n        return n - 2\n    return 0\n"
    results = {tuple(one.functions["f"](n) for n in (3, 4)) for one in mutants(source) if not one.vital}
    assert {(1, 2)} < results  # >=, or n > 2
    assert {(0, 3), (0, 1), (0, 4), (-1, 2), (0, 0)} < results  # n - 1, n - 3, n, return -1, n > 4
    (branch,) = [one for one in mutants(source) if one.vital]
    assert (branch.functions["f"](3), branch.functions["f"](4)) == (0, 0)


def test_a_step_without_effect_makes_no_task() -> None:
    source = "def f(values):\n    values = sorted(values)\n    return sum(values)\n"
    inputs = [[3, 1], [4, 1], [9, 9], [], [5]]
    assert choose(source, cases_of("f", sum, inputs), ()) is None
    effective = "def f(values):\n    values = values[1:]\n    return sum(values)\n"
    cases = cases_of("f", lambda v: sum(v[1:]), [[3, 1], [4, 2], [9, 3], [1, 4]])
    assert choose(effective, cases, ()) == cases


def test_a_test_is_added_for_a_slip_that_the_first_let_pass() -> None:
    source = "def f(n):\n    if n > 3:\n        return n + 6\n    return 5 - n\n"
    space = space_of(source)
    first = cases_of("f", space["f"], [-7, 70, 0, -3, 40])
    chosen = choose(source, first, cases_of("f", space["f"], [9, 3, 4]))
    assert chosen is not None and {3, 4} <= {case.arguments[0] for case in chosen}
