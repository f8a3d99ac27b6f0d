"""A question that takes two look-ups."""

import numpy as np

from agentrl.message import Action, answer, call
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool

NAMES = "Anna Ben Carl Dora Emil Fay Gus Hana Ivan Jane Kurt Lena".split()
CITIES = "Rome Oslo Bonn Kyiv Lima Nice Cork Bern Riga Graz".split()


class TwoHop(ToolEnv):
    """Say in which city the boss of somebody lives."""

    max_turns = 4

    def task(self, rng: np.random.Generator) -> str:
        self.bosses = {n: str(rng.choice([o for o in NAMES if o != n])) for n in NAMES}
        self.cities = {n: str(rng.choice(CITIES)) for n in NAMES}
        self.who = str(rng.choice(NAMES))
        return f"Where does the boss of {self.who} live?"

    @tool
    def boss(self, name: str) -> str:
        """Who is the boss of this person?"""
        return self.bosses.get(name, "nobody")

    @tool
    def city(self, name: str) -> str:
        """Where does this person live?"""
        return self.cities.get(name, "unknown")

    def reward(self, answer: str) -> float:
        return float(answer == self.cities[self.bosses[self.who]])

    def expert(self, observations: list[str]) -> Action:
        if len(observations) == 1:
            return call("boss", name=observations[0].split()[-2])
        return call("city", name=observations[1]) if len(observations) == 2 else answer(observations[2])
