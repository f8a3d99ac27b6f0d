"""Learning from demonstrations: maximum likelihood on the agent's own tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agentrl.episode import Context
from agentrl.trainers.batch import Row
from agentrl.trainers.updater import SftStats, Updater


@dataclass(frozen=True, slots=True, kw_only=True)
class SftMetrics:
    """One step on demonstrations, in terms of the run."""

    step: int
    """Counted from 1."""
    steps: int
    stats: SftStats


def sft(updater: Updater, batches: Iterable[Sequence[Context]], *, steps: int) -> Iterator[SftMetrics]:
    """Train on one batch of demonstrations per step, for at most `steps` steps.

    It is a generator: whoever iterates sees each step and may stop between two. The schedule is the
    updater's; to go on with another one, call its `restart_schedule`.

    Args:
        updater: Takes the steps.
        batches: Contexts whose action segments are the demonstration; the iterator may be endless.
        steps: Most steps to take.
    """
    for step, contexts in zip(range(1, steps + 1), batches, strict=False):
        stats = updater.sft_step([Row.of(context) for context in contexts])
        yield SftMetrics(step=step, steps=steps, stats=stats)
