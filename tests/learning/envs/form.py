"""Filling in a form from a sentence."""

import re

import numpy as np

from agentrl.message import Action, answer, call
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool

NAMES = "Anna Ben Carl Dora Emil Fay Gus Hana Ivan Jane Kurt Lena".split()
CITIES = "Rome Oslo Bonn Kyiv Lima Nice Cork Bern Riga Graz".split()


class Form(ToolEnv):
    """Enter a name, an age and a city, then answer with the receipt's number."""

    max_turns = 6

    def task(self, rng: np.random.Generator) -> str:
        name, city, age = str(rng.choice(NAMES)), str(rng.choice(CITIES)), int(rng.integers(18, 90))
        self.wanted = {"name": name, "age": str(age), "city": city}
        self.filled: dict[str, str] = {}
        self.receipt = str(rng.integers(10, 100))
        return f"Register {name} from {city}, {age} years old."

    @tool
    def fill(self, field: str, value: str) -> str:
        """Enter a value into a field of the form."""
        self.filled[field] = value
        return "saved"

    @tool
    def submit(self) -> str:
        """Send the form."""
        return f"receipt {self.receipt}" if self.filled == self.wanted else "the form is wrong"

    def reward(self, answer: str) -> float:
        return float(answer == self.receipt and self.filled == self.wanted)

    def expert(self, observations: list[str]) -> Action:
        name, city, age = re.findall(r"Register (\w+) from (\w+), (\d+)", observations[0])[0]
        steps = [("name", name), ("city", city), ("age", age)]
        if len(observations) <= 3:
            return call("fill", field=steps[len(observations) - 1][0], value=steps[len(observations) - 1][1])
        return call("submit") if len(observations) == 4 else answer(observations[-1].split()[-1])
