"""A stated multi-turn load: conversations whose first tokens are shared and whose lengths are log-normal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agentrl.episode import Ids, as_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Conversations of several turns, in groups that share a prompt; all share the system text.

    Tokens are random; a turn samples exactly as many as its length says, whatever they are.
    """

    groups: int = 16
    group_size: int = 4
    turns: int = 3
    system: int = 64
    prompt: float = 24.0
    """Median length of a group's prompt, log-normal with sigma 0.5."""
    completion: float = 32.0
    """Median number of sampled tokens of a turn, log-normal with sigma 0.8."""
    longest: int = 160
    """Cut of both."""
    observation: int = 16
    vocabulary: int = 2048
    seed: int = 0

    @property
    def conversations(self) -> int:
        """How many there are, all at once."""
        return self.groups * self.group_size

    @property
    def context(self) -> int:
        """The longest that a conversation can become."""
        return self.system + self.longest + self.turns * (self.longest + self.observation)

    def prompts(self) -> list[Ids]:
        """What each conversation begins with; those of a group are equal."""
        rng = np.random.default_rng(self.seed)
        system = rng.integers(0, self.vocabulary, self.system)
        lengths = self._lengths(rng, self.prompt, 0.5, (self.groups,))
        texts = [np.concatenate([system, rng.integers(0, self.vocabulary, n)]) for n in lengths]
        return [as_ids(text) for text in texts for _ in range(self.group_size)]

    def lengths(self) -> NDArray[np.int64]:
        """Sampled tokens of each turn, [conversations, turns]."""
        rng = np.random.default_rng(self.seed + 1)
        return self._lengths(rng, self.completion, 0.8, (self.conversations, self.turns))

    def observations(self) -> list[list[Ids]]:
        """What each conversation hears after each turn."""
        rng = np.random.default_rng(self.seed + 2)
        shape = (self.conversations, self.turns, self.observation)
        return [[as_ids(o) for o in c] for c in rng.integers(0, self.vocabulary, shape)]

    def _lengths(
        self, rng: np.random.Generator, median: float, sigma: float, shape: tuple[int, ...]
    ) -> NDArray[np.int64]:
        drawn = rng.lognormal(np.log(median), sigma, shape).round().clip(1, self.longest)
        lengths: NDArray[np.int64] = drawn.astype(np.int64)
        return lengths
