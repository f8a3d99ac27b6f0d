"""An environment of your own, and its training: find a number by asking, higher or lower.

python examples/guess_number.py [STEPS]
"""

import sys
from collections.abc import Sequence

import numpy as np

from agentrl import Action, GRPOTrainer, ToolEnv, answer, call, tool


class GuessNumber(ToolEnv):
    """The answer is a number of 1..8; halving what is left finds it in three questions."""

    max_turns = 6

    def task(self, rng: np.random.Generator) -> str:
        self.number = int(rng.integers(1, 9))
        self.name = int(rng.integers(10, 100))
        return f"Find number {self.name}, which lies between 1 and 8"

    @tool
    def at_least(self, number: int) -> str:
        """Ask whether the hidden number is at least this one."""
        return "yes" if self.number >= number else "no"

    def reward(self, answer: str) -> float:
        return float(answer == str(self.number))

    def expert(self, observations: Sequence[str]) -> Action:
        """Halve what is left."""
        low, high = 1, 8
        for reply in observations[1:]:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if reply == "yes" else (low, middle - 1)
        return answer(low) if low == high else call("at_least", number=(low + high + 1) // 2)


def main(steps: int = 40) -> None:
    """Train a tiny model from scratch and show what it learnt."""
    result = GRPOTrainer("tiny", GuessNumber, steps=steps).train()
    print(f"solved before: {result['success_before']:.2f}, after: {result['success_after']:.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
