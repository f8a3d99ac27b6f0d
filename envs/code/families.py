"""Which families of tasks belong to a level and a split."""

from __future__ import annotations

import functools

from agentrl.envs.code import errands, functions, questions
from agentrl.envs.code.language import LANGUAGE
from agentrl.envs.code.ledger import LEDGER
from agentrl.envs.code.machine import MACHINE
from agentrl.envs.code.problem import Family
from agentrl.envs.code.ranking import RANKING

LEVELS: tuple[tuple[tuple[Family, ...], tuple[Family, ...]], ...] = (
    (questions.TRAIN, questions.OOD),
    (errands.TRAIN, errands.OOD),
    (functions.TRAIN, functions.OOD),
    ((RANKING, MACHINE, LANGUAGE), (LEDGER,)),
)
"""For each level the families of train and test, and those held out."""


@functools.cache
def families(level: int, split: str) -> tuple[Family, ...]:
    """Give the families of a level and split."""
    return LEVELS[level][split == "ood"]


@functools.cache
def all_families() -> tuple[Family, ...]:
    """Give every family once."""
    return tuple(dict.fromkeys(f for level in LEVELS for side in level for f in side))
