"""Sorting in one turn, without any tool."""

import gymnasium

from agentrl.toolenv import AnyText


class SortNumbers(gymnasium.Env[str, str]):
    """Write four numbers in rising order."""

    max_turns = 1
    observation_space = AnyText()
    action_space = AnyText()

    def reset(self, *, seed=None, options=None):  # type: ignore[no-untyped-def]
        super().reset(seed=seed)
        self.numbers = [int(n) for n in self.np_random.choice(100, 4, replace=False)]
        return f"Sort {' '.join(map(str, self.numbers))}", {}

    def step(self, action):  # type: ignore[no-untyped-def]
        correct = action.split() == [str(n) for n in sorted(self.numbers)]
        return "", float(correct), True, False, {"correct": correct}

    def expert(self, observations: list[str]) -> str:
        return " ".join(map(str, sorted(map(int, observations[0].split()[1:]))))
