"""One group of a step, token by token: what `agentrl train --inspect` prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from agentrl.episode import Group
from agentrl.inspection import token_table
from agentrl.trainers.parts import StepEnd


def inspected(end: StepEnd, decode: Callable[[Sequence[int]], str]) -> Iterator[str]:
    """Give the lines of one group: the first whose attempts were rewarded differently, if there is one."""
    group = next((g for g in end.groups if len({e.reward for e in g.whole}) > 1), end.groups[0])
    advantages = advantages_of(end, group)
    for episode in group.episodes:
        outcome = f"reward {episode.reward:g}, correct {episode.correct}, {episode.finish}"
        if episode.failure is not None:
            outcome = f"failed ({episode.failure.kind}): {episode.failure.message}; not trained on"
        yield f"episode {episode.id}: {outcome}"
        for index, context in enumerate(episode.contexts):
            rows = advantages.get(episode.id, [])
            yield from token_table(context, decode, rows[index] if index < len(rows) else math.nan)


def advantages_of(end: StepEnd, group: Group) -> dict[str, list[list[float]]]:
    """Give, for each episode of a group, its contexts' advantages by token; NaN where nothing is trained."""
    found: dict[str, list[list[float]]] = {}
    members = {e.id for e in group.episodes}
    for row, start in zip(end.batch.rows, end.batch.starts, strict=False):
        name = end.batch.episodes[row.episode].episode.id
        if name in members:
            values = [math.nan] * len(row)
            for offset, position in enumerate(row.positions.tolist()):
                values[position + 1] = float(end.advantage_N[int(start) + offset])
            found.setdefault(name, []).append(values)
    return found
