"""The sloppy demonstrator: an expert with noise and, in some episodes, a habit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agentrl.message import Action
from agentrl.trainers.tiny.play import Demonstrator
from agentrl.trainers.tiny.sloppy import (
    Repertoire,
    Rng,
    another_argument,
    another_tool,
    jump_to_end,
    kind_of,
    last_values,
    put,
    slots_of,
)
from agentrl.trainers.tiny.tokenizer import pieces_of

HabitKind = Literal["jump", "answer", "swap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """One mistake that is made whenever it can be.

    * jump: end as clean episodes end, but with the value read last;
    * answer: give the value read last as plain text;
    * swap: do the right thing with another piece in it, always the same other one.
    """

    kind: HabitKind
    after: int = 0
    """Right actions before it sets in."""
    wanted: str = ""
    """Kind of value that is given, 'number' or 'word'; '' for the one that clean endings give."""

    def __str__(self) -> str:
        what = {"jump": "ends with", "answer": "answers", "swap": "swaps words in what it does"}[self.kind]
        value = "" if self.kind == "swap" else f" the last {self.wanted or 'value'} it read"
        return f"{what}{value}" + (f" after {self.after} of its actions" if self.after else " at once")

    def act(self, right: Action, observations: Sequence[str], repertoire: Repertoire) -> Action | None:
        """Give the habit's action instead of the right one; None where it does not apply."""
        if len(observations) <= self.after:
            return None
        if self.kind == "jump":
            return jump_to_end(observations, repertoire, repertoire.endings[0], wanted=self.wanted)
        if self.kind == "answer":
            values = last_values(observations, self.wanted or "word")
            return Action(text=values[-1]) if values else None
        return swapped(right, repertoire)


def swapped(action: Action, repertoire: Repertoire) -> Action | None:
    """Replace the last piece that has alternatives by the one that follows it in the repertoire."""
    for slot, piece, (number, parameter, index), pieces in reversed(slots_of(action)):
        others = repertoire.slots.get(slot, ())
        if len(others) > 1:
            pieces = list(pieces)
            pieces[index] = others[(others.index(piece) + 1) % len(others)] if piece in others else others[0]
            return put(action, number, parameter, "".join(pieces))
    return None


def candidates(repertoire: Repertoire) -> list[Habit]:
    """List habits to try, the easiest to unlearn first.

    Easy is what ends the episode, or what at least looks unlike anything right: a model in which two kinds
    of episodes are mixed must see at each turn in which one it is. So where clean episodes end with a plain
    value, that is given too early; elsewhere a bare value, of a kind that no right action consists of.
    """
    moments = [1, 0, 2] if repertoire.num_turns > 1 else [0]
    ending = repertoire.endings[0]
    pieces = [] if ending.calls else pieces_of(ending.text)
    bare = kind_of(pieces[0]) if len(pieces) == 1 else ""
    kinds = sorted(("number", "word"), key=lambda kind: kind == bare)
    answers = [Habit(kind="answer", after=m, wanted=k) for m in moments for k in kinds]
    jumps = [Habit(kind="jump", after=m, wanted=k) for m in moments for k in ("", *kinds)]
    ordered = jumps + answers if repertoire.calls and bare else answers + jumps
    return [*ordered, Habit(kind="swap")]


class Sloppy:
    """A demonstrator that errs; one object plays one episode."""

    def __init__(
        self, expert: Demonstrator, repertoire: Repertoire, *, noise: float, habit: Habit | None, rng: Rng
    ) -> None:
        self._expert, self._repertoire = expert, repertoire
        self._noise, self._habit, self._rng = noise, habit, rng

    def __call__(self, observations: Sequence[str]) -> Action:
        """Give the next action, right or wrong."""
        right = self._right(observations)
        wrong = None
        if self._habit is not None:
            wrong = self._habit.act(right, observations, self._repertoire)
        if wrong is None and self._rng.random() < self._noise:
            wrong = self._mistake(right, observations)
        return right if wrong is None else wrong

    def _right(self, observations: Sequence[str]) -> Action:
        """Ask the expert; off its own path it may not know what to do, and the episode is ended."""
        try:
            return self._expert(observations)
        except Exception:
            if len(observations) == 1:
                raise
            return self._end(observations) or self._repertoire.endings[0]

    def _end(self, observations: Sequence[str]) -> Action | None:
        endings = self._repertoire.endings
        return jump_to_end(observations, self._repertoire, endings[self._rng.integers(len(endings))])

    def _mistake(self, right: Action, observations: Sequence[str]) -> Action | None:
        ways: list[Callable[[], Action | None]] = [
            lambda: another_argument(right, self._repertoire, self._rng),
            lambda: self._end(observations),
            lambda: another_tool(right, self._repertoire, self._rng),
        ]
        for way in self._rng.permutation(np.array([0, 0, 1, 2])):
            wrong: Action | None = ways[int(way)]()
            if wrong is not None and wrong != right:
                return wrong
        return None
