"""Faults found by readers: pay for junk, verdicts that remember, tools that tell, an expert that breaks."""
# ruff: noqa: D101 - the name says what is wrong

from collections.abc import Sequence

import numpy as np

from agentrl.errors import ToolError
from agentrl.message import Action
from agentrl.toolkit import tool
from tests.check.bases import Shop
from tests.check.faulty_answers import Priced


class PaidByLength(Priced):
    def reward(self, answer: str) -> float:
        return 1.0 if self.right(answer) else min(0.99, len(answer) / 100)


class LessEachTime(Priced):
    def __init__(self) -> None:
        self.solved = 0

    def reward(self, answer: str) -> float:
        self.solved += self.right(answer)
        return float(self.right(answer)) / (1 + 0.01 * self.solved)


class TellsForNumbers(Priced):
    @tool
    def guess(self, number: int) -> str:
        """Guess the result."""
        result = self.prices[self.item] * self.factor
        if number != result:
            raise ToolError(f"wrong, it is {result}")
        return "right"


class ExpertBreaks(Shop):
    def expert(self, observations: Sequence[str]) -> Action:
        raise KeyError(observations[0])


class ExpertBreaksLater(Priced):
    """Only after ten tasks in one process; where it is asked blindly, no task was ever started."""

    started = 0

    def task(self, rng: np.random.Generator) -> str:
        type(self).started += 1
        return super().task(rng)

    def expert(self, observations: Sequence[str]) -> Action:
        if self.started > 10:
            raise KeyError("the eleventh")
        return super().expert(observations)


FAULTS: dict[type, tuple[str, str]] = {
    PaidByLength: ("judge-not-fooled", "earned a reward of 0.9 or more"),
    LessEachTime: ("episode-isolation", "had played another episode before"),
    TellsForNumbers: ("answer-given-away", "guess(918273)"),
    ExpertBreaksLater: ("episode-isolation", "raised KeyError"),
    ExpertBreaks: ("expert-solves", "raised KeyError"),
}
