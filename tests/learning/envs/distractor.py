"""A tool that leads astray beside the one that helps."""

import numpy as np

from agentrl.message import Action, answer, call
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool

ROOMS = "hall attic cellar kitchen office stable garden tower".split()


class Distractor(ToolEnv):
    """Say how many boxes stand in a room; gossip is wrong, the inventory is right but needs a code."""

    max_turns = 5

    def task(self, rng: np.random.Generator) -> str:
        self.room = str(rng.choice(ROOMS))
        codes = rng.permutation(90)[: len(ROOMS)] + 10
        self.codes = dict(zip(ROOMS, (int(c) for c in codes), strict=True))
        self.boxes, self.rumour = (int(n) for n in rng.choice(60, 2, replace=False))
        return f"How many boxes are in the {self.room}?"

    @tool
    def gossip(self, room: str) -> str:
        """Hear what people say about a room."""
        return f"about {self.rumour} boxes"

    @tool
    def code(self, room: str) -> str:
        """Look up the code of a room."""
        return f"code {self.codes.get(room, 0)}"

    @tool
    def inventory(self, code: int) -> str:
        """Count the boxes in the room with a code."""
        return f"{self.boxes} boxes" if code == self.codes[self.room] else "0 boxes"

    def reward(self, answer: str) -> float:
        return float(answer == str(self.boxes))

    def expert(self, observations: list[str]) -> Action:
        if len(observations) == 1:
            return call("code", room=observations[0].split()[-1].rstrip("?"))
        if len(observations) == 2:
            return call("inventory", code=int(observations[1].split()[-1]))
        return answer(observations[2].split()[0])
