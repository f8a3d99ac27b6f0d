"""Adaptive guessing as a plain Gymnasium environment: every action is text."""

import re

import gymnasium

from agentrl.toolenv import AnyText


class Guess(gymnasium.Env[str, str]):
    """Find a whole number in 1..31 by hearing higher or lower."""

    max_turns = 6
    observation_space = AnyText()
    action_space = AnyText()

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        super().reset(seed=seed)
        self.target, self.turn = int(self.np_random.integers(1, 32)), 0
        return "I think of a whole number in 1..31. Reply <guess>n</guess>.", {}

    def step(self, action):  # type: ignore[no-untyped-def]
        self.turn += 1
        match = re.fullmatch(r"<guess>(\d+)</guess>", action.strip())
        guess = int(match[1]) if match else None
        if guess == self.target:
            return "Correct.", 1.0, True, False, {"correct": True}
        hint = (
            "No number."
            if guess is None
            else f"{guess}: higher."
            if guess < self.target
            else f"{guess}: lower."
        )
        return hint, 0.0, False, self.turn == self.max_turns, {"correct": False}

    def expert(self, observations: list[str]) -> str:
        low, high = 1, 31
        for number, way in re.findall(r"(\d+): (\w+)", " ".join(observations[1:])):
            low, high = (
                (max(low, int(number) + 1), high) if way == "higher" else (low, min(high, int(number) - 1))
            )
        return f"<guess>{(low + high) // 2}</guess>"
