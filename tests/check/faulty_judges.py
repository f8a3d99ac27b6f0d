"""Faults of judging, and of what differs between machines, folders and orders."""
# ruff: noqa: D101 - the name says what is wrong

import getpass
import os
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np

from agentrl.message import Action, answer
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from tests.check.bases import Count, Shop


class NanIsRight(Shop):
    def right(self, answer: str) -> bool:
        try:
            value = float(answer)
        except ValueError:
            return False
        return not abs(value - self.prices[self.item] * self.factor) > 0.5


class Word(ToolEnv):
    """Sound; what follows breaks its judge."""

    def task(self, rng: np.random.Generator) -> str:
        self.secret = "".join(chr(97 + int(i)) for i in rng.integers(0, 26, 8))
        return f"Write {self.secret[::-1]} backwards."

    def reward(self, answer: str) -> float:
        return float(self.right(answer.strip()))

    def right(self, answer: str) -> bool:
        return answer == self.secret


class Beginning(Word):
    def right(self, answer: str) -> bool:
        return bool(answer) and self.secret.startswith(answer)


class Part(Word):
    def right(self, answer: str) -> bool:
        return len(answer) > 2 and answer in self.secret

    def expert(self, observations: Sequence[str]) -> Action:
        return answer(observations[0].split()[1][::-1])


class MoreBehind(Word):
    def right(self, answer: str) -> bool:
        return answer.startswith(self.secret)


class MostlyYes(ToolEnv):
    def task(self, rng: np.random.Generator) -> str:
        self.n = int(rng.integers(10**6))
        return f"Is {self.n} above 30000?"

    def reward(self, answer: str) -> float:
        return float(answer.strip() == ("yes" if self.n > 30000 else "no"))


class Evaluates(Shop):
    def right(self, answer: str) -> bool:
        try:
            return bool(eval(answer) == self.prices[self.item] * self.factor)
        except Exception:
            return False


class EvaluatingTool(Shop):
    @tool
    def calculate(self, expression: str) -> str:
        """Calculate an expression."""
        try:
            return str(eval(expression, {"__builtins__": {}}))
        except Exception:
            return "it has no value"


class HostName(Shop):
    def shown(self, value: int) -> str:
        return f"{value} on {socket.gethostname()}"


class UserName(Shop):
    def task(self, rng: np.random.Generator) -> str:
        return f"Dear {getpass.getuser()}! {super().task(rng)}"


class CurrentFolder(Shop):
    def shown(self, value: int) -> str:
        return f"{value} in {os.getcwd()}"


class HomeFolder(Shop):
    def shown(self, value: int) -> str:
        return f"{value} in {Path.home()}"


class ProcessNumber(Shop):
    def shown(self, value: int) -> str:
        return f"{value} by {os.getpid()}"


class ListsFolder(Shop):
    def task(self, rng: np.random.Generator) -> str:
        return f"{super().task(rng)} There are {', '.join(sorted(os.listdir('.')))}."


class ReadsFolder(Shop):
    def task(self, rng: np.random.Generator) -> str:
        return super().task(rng) + Path("pyproject.toml").read_text()[:20]


class ClosingTool(Shop):
    @tool
    def close(self, door: str) -> str:  # type: ignore[override]
        """Close a door."""
        return "closed"


class RewardingTool(Shop):
    @tool
    def fork(self) -> str:
        """Take a fork."""
        return "taken"


class OrderMatters(Shop):
    levels = (0, 1)
    highest: ClassVar[int] = 0

    def task(self, rng: np.random.Generator) -> str:
        type(self).highest = max(self.highest, self.level)
        return f"{super().task(rng)} Level {self.level} of {self.highest}."


class SplitOrderMatters(Shop):
    seen: ClassVar[set[str]] = set()

    def task(self, rng: np.random.Generator) -> str:
        self.seen.add(self.split)
        return f"{super().task(rng)} There are {len(self.seen)} splits."


class ReadsInput(Shop):
    def find(self, item: str) -> int:
        return int(input())


class NinetyPercent(Word):
    def reward(self, answer: str) -> float:
        return 0.9 * self.right(answer.strip())

    def expert(self, observations: Sequence[str]) -> Action:
        return answer(observations[0].split()[1][::-1])


class PlainText(Count):
    observation_space = gymnasium.spaces.Text(100)
    action_space = gymnasium.spaces.Text(100)


class CannotFork(Shop):
    count: ClassVar[list[int]] = []

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count.append(1)
        self.number = len(self.count)

    def task(self, rng: np.random.Generator) -> str:
        return f"{super().task(rng)} Shop {self.number}."


FAULTS: dict[type, tuple[str, str]] = {
    NanIsRight: ("judge-not-fooled", "math.isfinite"),
    Beginning: ("judge-not-fooled", "beginning"),
    Part: ("judge-not-fooled", "without its end"),
    MoreBehind: ("judge-not-fooled", "more behind it"),
    MostlyYes: ("constant-answer", "'yes' alone solves"),
    Evaluates: ("text-as-code", "reward() evaluates the model's text as code"),
    EvaluatingTool: ("text-as-code", "tool 'calculate' evaluates"),
    HostName: ("host-details", "host's name"),
    UserName: ("host-details", "host's user"),
    CurrentFolder: ("host-details", "host's path"),
    HomeFolder: ("host-details", "host's path"),
    ProcessNumber: ("determinism-across-processes", "the process"),
    ListsFolder: ("determinism-across-processes", "current folder"),
    ReadsFolder: ("determinism-across-processes", "current folder"),
    ClosingTool: ("tool-schemas", "'close'"),
    RewardingTool: ("tool-schemas", "'fork'"),
    OrderMatters: ("task-order", "level 0"),
    SplitOrderMatters: ("task-order", "splits were played first"),
    ReadsInput: ("responds", "stdin"),
    NinetyPercent: ("correct-against-reward", "never reached 1 (0.9"),
    PlainText: ("gymnasium", "charset="),
    CannotFork: ("fork-equality", "lock"),
}
