"""The tasks of the code environment: solvable, varied, not to be guessed, apart by split."""

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from agentrl.envs.code import questions
from agentrl.envs.code.env import CodeEnv
from agentrl.envs.code.families import families
from agentrl.envs.code.market import ITEMS, NUMBERS
from agentrl.envs.code.problem import Problem, pick
from agentrl.task import SPLITS, Split
from agentrl.toolenv import fingerprint
from tests.envs.playing import play_many, task_of, with_worker

LEVELS = [(level, split) for level in CodeEnv.levels for split in SPLITS]


def draw(level: int, split: str, seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    return pick(rng, families(level, split)).draw(rng)


async def shown(level: int, split: Split, count: int) -> list[tuple[str, int]]:
    """Texts and fingerprints; needs no sandbox."""
    env, seen = CodeEnv(), []
    for position in range(count):
        text = (await env.begin(task_of(split, level, position))).text
        seen.append((text, fingerprint(env, text)))
    return seen


@pytest.mark.parametrize(("level", "split"), LEVELS)
def test_the_expert_solves_every_task_from_what_it_reads(level: int, split: Split) -> None:
    played = with_worker(lambda worker: play_many(worker, split, level, 40))
    assert [p.texts for p in played if not p.correct] == []


def test_level_0_needs_a_call_that_depends_on_another() -> None:
    """An argument of the second call stands in the first result and nowhere before."""
    played = with_worker(lambda worker: play_many(worker, "test", 0, 100))
    words = re.compile(r"\w+")
    dependent = [
        set(words.findall(p.codes[1])) & set(words.findall(p.texts[1])) - set(words.findall(p.texts[0]))
        for p in played
    ]
    assert all(len(p.codes) == 2 for p in played)
    assert sum(map(bool, dependent)) >= 0.9 * len(played)


def test_levels_take_more_and_more_calls() -> None:
    longer = with_worker(lambda worker: play_many(worker, "ood", 0, 20))
    assert {len(p.codes) for p in longer} == {3}
    errands = with_worker(lambda worker: play_many(worker, "train", 1, 40))
    assert {len(p.codes) for p in errands} <= {3, 4, 5}


@pytest.mark.parametrize("split", ["train", "ood"])
def test_level_0_cannot_be_guessed(split: Split) -> None:
    problems = [draw(0, split, seed) for seed in range(3000)]
    assert Counter(p.answer for p in problems).most_common(1)[0][1] <= 0.05 * len(problems)
    assert not [p for p in problems if p.answer in re.findall(r"\w+", p.text)]
    assert all(0 <= int(p.answer) <= 99 for p in problems)


def test_level_0_cannot_be_guessed_from_the_operand_either() -> None:
    """Best guess for each operand: pairs are drawn evenly, so it is right once for each operand there is."""
    for word in questions.OPERATORS:
        pairs = questions.pairs(word)
        assert len({operand for _, operand in pairs}) / len(pairs) <= 0.06, word


def test_the_space_of_level_0_counted() -> None:
    places = len(ITEMS) * len(NUMBERS)
    sums = places * sum(len(questions.pairs(word)) for word in questions.OPERATORS)
    hops = len(ITEMS) * (len(ITEMS) - 1) * len(NUMBERS) * 99
    assert sums + hops >= 500_000


@pytest.mark.parametrize("level", CodeEnv.levels)
def test_the_space_estimated_by_birthdays(level: int) -> None:
    count = 6000 if level == 0 else 1500
    keys = Counter((p.text, p.key) for p in (draw(level, "train", seed) for seed in range(count)))
    meetings = sum(n * (n - 1) // 2 for n in keys.values())
    assert count * (count - 1) / 2 / max(1, meetings) >= 1e5


@pytest.mark.parametrize("level", CodeEnv.levels)
def test_splits_share_no_task(level: int) -> None:
    seen = {split: {mark for _, mark in asyncio.run(shown(level, split, 300))} for split in SPLITS}
    assert not any(seen[a] & seen[b] for a, b in combinations(SPLITS, 2))


def test_held_out_families_are_other_families() -> None:
    for level in CodeEnv.levels:
        assert not {*families(level, "train")} & {*families(level, "ood")}


def test_hidden_tests_tell_programs_apart() -> None:
    """No constant passes, and there are enough of them."""
    for level, split, seed in [(2, "train", s) for s in range(60)] + [(3, "ood", s) for s in range(20)]:
        results = [repr(case.expected) for case in draw(level, split, seed).cases]
        assert len(results) >= 8
        assert Counter(results).most_common(1)[0][1] < len(results)


def test_tasks_do_not_depend_on_the_process() -> None:
    code = (
        "import asyncio; from tests.envs.test_code_tasks import shown, LEVELS; "
        "print([asyncio.run(shown(level, split, 12)) for level, split in LEVELS])"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        )
        for seed in ("1", "2")
    ]
    assert outputs[0].stdout == outputs[1].stdout, outputs[0].stderr
    assert len(outputs[0].stdout) > 1000
