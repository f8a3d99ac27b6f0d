"""The environment of both sides as ours: three turns, a call in each, what comes back is one line."""

from __future__ import annotations

import numpy as np

from agentrl.bench.speed.trl.peer import Lookup
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool

TURNS = 3
TOPICS = ("harbour", "granite", "lantern", "orchard", "compass", "meadow", "violin", "glacier")


class Words(ToolEnv):
    """Look up words; the last call ends the episode."""

    system = (
        "You answer questions about words. Think which word is worth looking up, then call the tool once in "
        "every turn. When you have looked up three words, you are done."
    )
    max_turns = TURNS

    def task(self, rng: np.random.Generator) -> str:
        self._lookup = Lookup()
        self._calls = 0
        first, second, third = rng.permutation(TOPICS)[:3]
        digits = " ".join(str(d) for d in rng.integers(0, 10, 8))
        return (
            f"Notebook {digits}: somebody wrote of a {first}, a {second} and a {third}. "
            "Find three words that belong to it and look up each of them."
        )

    @tool
    def look(self, word: str) -> str:
        """Look up a word."""
        self._calls += 1
        shown = self._lookup.look(word)
        if self._calls == TURNS:
            self.end(self._lookup.get_reward())
        return shown

    def reward(self, answer: str) -> float:
        return 0.0
