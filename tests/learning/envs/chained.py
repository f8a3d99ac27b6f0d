"""Two sums one after the other, with a calculator."""

import numpy as np

from agentrl.message import Action, answer, call
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool


class Chained(ToolEnv):
    """Add two numbers and take one away; only the calculator can compute."""

    max_turns = 4

    def task(self, rng: np.random.Generator) -> str:
        a, b = (int(n) for n in rng.integers(1, 50, 2))
        c = int(rng.integers(0, a + b))
        self.result = a + b - c
        return f"What is {a} + {b}, minus {c}?"

    @tool
    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @tool
    def subtract(self, a: int, b: int) -> int:
        """Take b away from a."""
        return a - b

    def reward(self, answer: str) -> float:
        return float(answer == str(self.result))

    def expert(self, observations: list[str]) -> Action:
        words = observations[0].replace(",", "").replace("?", "").split()
        a, b, c = words[2], words[4], words[6]
        if len(observations) == 1:
            return call("add", a=int(a), b=int(b))
        if len(observations) == 2:
            return call("subtract", a=int(observations[1]), b=int(c))
        return answer(observations[-1])
