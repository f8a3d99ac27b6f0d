"""Two sound environments that the faulty ones are made from."""

from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np

from agentrl.errors import ToolError
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool

Options = dict[str, Any] | None
Step = tuple[Any, Any, Any, Any, dict[str, Any]]


class Shop(ToolEnv):
    """Sound; what follows breaks one thing of it."""

    names: ClassVar[Sequence[str]] = ("pear", "plum", "fig", "kiwi", "lime", "date")

    def task(self, rng: np.random.Generator) -> str:
        self.prices = {n: int(rng.integers(2, 99)) for n in self.names}
        self.item, self.factor = str(rng.choice(list(self.names))), int(rng.integers(2, 30))
        return f"What is the price of {self.item}, times {self.factor}?"

    @tool
    def price(self, item: str) -> str:
        """Look up the price of an item."""
        return self.shown(self.find(item))

    def find(self, item: str) -> int:
        if item not in self.prices:
            raise ToolError(f"there are {', '.join(self.prices)}")
        return self.prices[item]

    def shown(self, value: int) -> str:
        return str(value)

    def right(self, answer: str) -> bool:
        return answer.strip() == str(self.prices[self.item] * self.factor)

    def reward(self, answer: str) -> Any:
        return float(self.right(answer))


class Count(gymnasium.Env[str, str]):
    """Sound and plain; what follows breaks one thing of it."""

    max_turns: ClassVar[int | None] = 5

    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        super().reset(seed=seed)
        self.n, self.turn = int(self.np_random.integers(10**6)), 0
        return f"Count on from {self.n}.", {}

    def step(self, action: str) -> Step:
        self.turn += 1
        right = action.strip() == str(self.n + 1)
        return (
            ("Yes." if right else "No."),
            float(right),
            right,
            not right and self.turn == 5,
            {"correct": right},
        )
