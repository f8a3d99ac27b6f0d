"""Small environments that the tests of the tiny model play."""

import re
import zlib
from typing import Any

import gymnasium
import numpy as np

from agentrl.message import Action, answer, call
from agentrl.toolenv import AnyText, ToolEnv
from agentrl.toolkit import tool


class LookUp(ToolEnv):
    """Say what an item costs; only the tool knows."""

    max_turns = 3

    def task(self, rng: np.random.Generator) -> str:
        self.item, self.cost = str(rng.choice(["pear", "fig", "lime", "plum"])), int(rng.integers(100))
        return f"What does a {self.item} cost?"

    @tool
    def price(self, item: str) -> str:
        """Look up a price."""
        return f"{item}: {self.cost}" if item == self.item else "sold out, ask for something else"

    @tool
    def weight(self, item: str) -> str:
        """Look up a weight."""
        return f"{item}: {self.cost + 1}"

    def reward(self, answer: str) -> float:
        return float(answer == str(self.cost))

    def expert(self, observations: list[str]) -> Action:
        assert not hasattr(self, "cost"), "the expert must not see the task"
        if len(observations) == 1:
            return call("price", item=observations[0].split()[3])
        return answer(int(observations[1].split(": ")[1]))  # raises where the tool said no price


class Echo(gymnasium.Env[str, str]):
    """Say the number once more; every action is text."""

    max_turns = 1
    observation_space = AnyText()
    action_space = AnyText()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.number = int(self.np_random.integers(100))
        return f"Say {self.number} in tags, not {int(self.np_random.integers(100))}.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        correct = action == f"<say>{self.number}</say>"
        return "", float(correct), True, False, {"correct": correct}

    def expert(self, observations: list[str]) -> str:
        return f"<say>{re.findall('[0-9]+', observations[0])[0]}</say>"


class Unlearnable(Echo):
    """The right answer is a checksum of the question."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        correct = action == checksum(self.shown)
        return "", float(correct), True, False, {"correct": correct}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.shown = f"Question {int(self.np_random.integers(10**6))}?"
        return self.shown, {}

    def expert(self, observations: list[str]) -> str:
        return checksum(observations[0])


class AlwaysRight(Echo):
    """Whatever is said is right."""

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return "", 1.0, True, False, {"correct": True}


class BadTeacher(Echo):
    """The expert is wrong."""

    def expert(self, observations: list[str]) -> str:
        return "I do not know."


def checksum(text: str) -> str:
    return str(zlib.crc32(text.encode()) % 97)


class NoExpert(gymnasium.Env[str, str]):
    """Nobody shows how."""


class LongWinded(Echo):
    """Says a great deal in words that never come twice."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        shown, info = super().reset(seed=seed)
        noise = "".join(chr(97 + int(c)) for c in self.np_random.integers(26, size=6000))
        return f"{shown} {noise}", info
