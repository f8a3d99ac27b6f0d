"""Comparing four prices."""

import numpy as np

from agentrl.message import Action, answer, call
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool

GOODS = "pear plum fig lime kiwi date nut leek corn rice bean kale".split()


class Cheapest(ToolEnv):
    """Ask what four goods cost and name the cheapest."""

    max_turns = 6

    def task(self, rng: np.random.Generator) -> str:
        goods = [str(g) for g in rng.choice(GOODS, 4, replace=False)]
        self.prices = dict(zip(goods, (int(p) for p in rng.choice(99, 4, replace=False) + 1), strict=True))
        return f"Which is cheapest: {', '.join(goods)}?"

    @tool
    def price(self, item: str) -> str:
        """Say what an item costs."""
        return str(self.prices.get(item, "not for sale"))

    def reward(self, answer: str) -> float:
        return float(answer == min(self.prices, key=self.prices.__getitem__))

    def expert(self, observations: list[str]) -> Action:
        goods = observations[0].removeprefix("Which is cheapest: ").rstrip("?").split(", ")
        if len(observations) <= len(goods):
            return call("price", item=goods[len(observations) - 1])
        prices = [int(p) if p.isdecimal() else 100 for p in observations[1:5]]
        return answer(goods[prices.index(min(prices))])
