"""The environment of the tests: it rewards long words, logs what it executes, and may be changed."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

LOG = Path("executed.log")


class Word(gymnasium.Env[str, str]):
    """Rewards long words over two turns, so that the attempts of an untrained model differ."""

    max_turns = 2

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.turn = 0
        self.wanted = int(np.random.default_rng(seed).integers(8, 20))
        return f"price of {self.np_random.choice(['pear', 'plum', 'fig'])}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        with LOG.open("a") as log:
            log.write(f"{self.turn} {self.wanted}\n")
        self.turn += 1
        done = self.turn == 2
        reward = len(action) / 50 if done else 0.0
        return "again", reward, done, False, {"correct": len(action) > self.wanted}
