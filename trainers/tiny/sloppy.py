"""Sloppiness: how a demonstrator goes wrong, in ways that know nothing of the environment.

Two knobs. *Noise* is a chance per action: another argument of the same kind, another tool, the last action
once more, or jumping to the end. A *habit* is one mistake that an episode makes whenever it can: such as
answering with what was read last instead of going on. Only a habit in more than half of the episodes makes
the *likeliest* action wrong, and so the greedy success low; noise alone leaves the right action on top.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agentrl.dialect.writing import write_value
from agentrl.message import Action, Call
from agentrl.trainers.tiny.play import Played
from agentrl.trainers.tiny.tokenizer import pieces_of

Rng = np.random.Generator
Slot = tuple[str, str, str, str, str]
"""Tool, parameter, kind of the piece, and the pieces beside it."""
SYMBOLS = re.compile(r"[^\w\s]")


def kind_of(piece: str) -> str:
    """Tell what a piece is.

    >>> [kind_of(p) for p in ("12", "pear", "*", " ", "")]
    ['number', 'word', 'symbol', 'space', '']
    """
    if not piece:
        return ""
    if piece.isdecimal():
        return "number"
    return "word" if piece[0].isalnum() else "space" if piece.isspace() else "symbol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repertoire:
    """What clean demonstrations hold: calls by tool, final actions, and what stands in each slot."""

    slots: Mapping[Slot, tuple[str, ...]]
    calls: Mapping[str, tuple[Call, ...]]
    endings: tuple[Action, ...]
    """The last actions of clean episodes, the shortest first."""
    num_turns: int
    """Median number of turns."""


def repertoire_of(played: Sequence[Played]) -> Repertoire:
    """Collect the repertoire of clean episodes."""
    slots: defaultdict[Slot, dict[str, None]] = defaultdict(dict)
    calls: defaultdict[str, list[Call]] = defaultdict(list)
    for episode in played:
        for action in episode.actions:
            for call in action.calls:
                calls[call.name].append(call)
            for slot, piece, _, _ in slots_of(action):
                slots[slot][piece] = None
    return Repertoire(
        slots={s: tuple(p) for s, p in slots.items()},
        calls={n: tuple(c) for n, c in calls.items()},
        endings=tuple(sorted((e.actions[-1] for e in played if e.actions), key=length_of)),
        num_turns=int(np.median([len(e.actions) for e in played])),
    )


def length_of(action: Action) -> int:
    """Count what an action writes."""
    return len(action.text) + sum(len(write_value(v)) for c in action.calls for v in c.arguments.values())


Place = tuple[int, str, int]
"""Which call (-1: the text), which parameter, which piece."""


def slots_of(action: Action) -> list[tuple[Slot, str, Place, list[str]]]:
    """List the pieces of an action: slot, piece, place, and all pieces of the text that it stands in."""
    texts = [(-1, "", "", action.text)] if action.text else []
    texts += [
        (n, c.name, p, write_value(v)) for n, c in enumerate(action.calls) for p, v in c.arguments.items()
    ]
    found = []
    for number, tool, parameter, text in texts:
        pieces = pieces_of(text)
        around = ["", *(("#" if kind_of(p) == "number" else p) for p in pieces), ""]
        for i, piece in enumerate(pieces):
            if kind_of(piece) in ("number", "word", "symbol"):
                slot = (tool, parameter, kind_of(piece), around[i], around[i + 2])
                found.append((slot, piece, (number, parameter, i), pieces))
    return found


def another_argument(action: Action, repertoire: Repertoire, rng: Rng) -> Action | None:
    """Put another piece of the same kind into one place; None where there is no other."""
    choices = []
    for slot, piece, place, pieces in slots_of(action):
        others = [p for p in repertoire.slots.get(slot, ()) if p != piece]
        if others:
            choices.append((others, place, pieces))
    if not choices:
        return None
    others, (number, parameter, index), pieces = choices[rng.integers(len(choices))]
    pieces = list(pieces)
    pieces[index] = others[rng.integers(len(others))]
    return put(action, number, parameter, "".join(pieces))


def put(action: Action, number: int, parameter: str, text: str) -> Action:
    """Give the action with one text replaced; a value that was no text stays of its type where it can."""
    if number < 0:
        return replace(action, text=text)
    call = action.calls[number]
    old = call.arguments[parameter]
    value: object = text
    if isinstance(old, int) and not isinstance(old, bool) and re.fullmatch(r"-?\d+", text):
        value = int(text)
    calls = list(action.calls)
    calls[number] = replace(call, arguments={**call.arguments, parameter: value})
    return replace(action, calls=tuple(calls))


def another_tool(action: Action, repertoire: Repertoire, rng: Rng) -> Action | None:
    """Call another tool, as some clean episode called it; None where there is no other."""
    own = {c.name for c in action.calls}
    names = [n for n in repertoire.calls if n not in own]
    if not names:
        return None
    pool = repertoire.calls[names[rng.integers(len(names))]]
    return Action(calls=(pool[rng.integers(len(pool))],))


def jump_to_end(
    observations: Sequence[str], repertoire: Repertoire, ending: Action, *, wanted: str = ""
) -> Action | None:
    """End the episode in the form of a clean ending, with the values read last; None where there are none.

    Args:
        observations: What was read.
        repertoire: Says which places of the ending vary.
        ending: Some clean ending.
        wanted: Kind of the values, 'number' or 'word'; '' takes the kinds that the ending holds, if what was
            read last holds them too, else what was read last.
    """
    places = [p for p in slots_of(ending) if len(repertoire.slots.get(p[0], ())) > 1]
    latest = {k: last_values(observations, k) for k in ("number", "word", "symbol")}
    for slot, _, (number, parameter, index), _ in reversed(places):
        values = latest[wanted or slot[2]]
        if not wanted and not last_values(observations[-1:], slot[2]):
            values = last_values(observations[-1:], "number") or last_values(observations[-1:], "word")
        if not values:
            return None
        text = ending.text if number < 0 else write_value(ending.calls[number].arguments[parameter])
        pieces = pieces_of(text)
        pieces[index] = values.pop()
        ending = put(ending, number, parameter, "".join(pieces))
    return ending


def last_values(observations: Sequence[str], kind: str) -> list[str]:
    """Give all numbers, words or symbols that were read, in order.

    >>> last_values(["Is 7 prime?", "no"], "number")
    ['7']
    """
    return [p for text in observations for p in pieces_of(text) if kind_of(p) == kind]
