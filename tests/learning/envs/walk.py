"""Walking to a place on a small map."""

import re

import numpy as np

from agentrl.message import Action, call
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool

STEPS = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}


class Walk(ToolEnv):
    """Reach the goal on a 5 x 5 map; arriving ends the episode."""

    max_turns = 9

    def task(self, rng: np.random.Generator) -> str:
        self.here, self.goal = (tuple(int(n) for n in rng.integers(1, 6, 2)) for _ in range(2))
        if self.here == self.goal:
            self.goal = (6 - self.here[0] + (self.here[0] == 3), self.here[1])
        return f"You are at {self.here[0]} {self.here[1]}. Go to {self.goal[0]} {self.goal[1]}."

    @tool
    def move(self, direction: str) -> str:
        """Go one step north, south, east or west."""
        dx, dy = STEPS.get(direction, (0, 0))
        self.here = (min(5, max(1, self.here[0] + dx)), min(5, max(1, self.here[1] + dy)))
        if self.here == self.goal:
            self.end(1.0)
        return f"You are at {self.here[0]} {self.here[1]}."

    def reward(self, answer: str) -> float:
        return 0.0

    def expert(self, observations: list[str]) -> Action:
        goal_x, goal_y = (int(n) for n in re.findall(r"\d+", observations[0])[2:4])
        x, y = (int(n) for n in re.findall(r"\d+", observations[-1])[:2])
        if x != goal_x:
            return call("move", direction="east" if x < goal_x else "west")
        return call("move", direction="north" if y < goal_y else "south")
