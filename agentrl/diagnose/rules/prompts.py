"""Prompts that are written otherwise in the middle of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentrl.diagnose.evidence import Evidence, share
from agentrl.diagnose.finding import Finding
from agentrl.episode import Episode

LEAST_PROMPTS = 8
"""Different prompts that must agree before what they share counts as the template."""
OTHER = 0.9
"""Share of a later step's prompts without it."""


def changing_prompts(evidence: Evidence) -> Iterator[Finding]:
    """What all prompts share is the template: system text, tools, control tokens; it stays as it is."""
    steps: dict[int, list[Episode]] = {}
    for step, episode in evidence.episodes:
        if episode.contexts and episode.contexts[0].segments:
            steps.setdefault(step, []).append(episode)
    known: set[tuple[int, ...]] = set()
    for step, episodes in sorted(steps.items()):
        prompts = {prompt_of(e) for e in episodes}
        if len(known) >= LEAST_PROMPTS:
            head, tail = shared(sorted(known))
            other = share(not fits(p, head, tail) for p in prompts)
            if other > OTHER and (head or tail):
                yield changed(step, episodes[0], other, len(steps))
                return
        known |= prompts


def changed(step: int, episode: Episode, other: float, looked: int) -> Finding:
    """Say it."""
    return Finding(
        name="template-drift",
        sentence="Template drift: prompts are written otherwise in the middle of the run (system text, tools "
        "or chat template).",
        evidence=(f"from step {step} on, {other:.0%} of the prompts lack what all before had in common",),
        remedy="keep system text, tools and chat template of a run as they are",
        severity=1.0 if looked else 0.0,
        proof=True,
        since=step,
        episode=episode.id,
    )


def prompt_of(episode: Episode) -> tuple[int, ...]:
    """Give the ids of the first prompt."""
    return tuple(episode.contexts[0].segments[0].ids.tolist())


def shared(prompts: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the longest common beginning and end; sorted prompts differ most at the ends of the list.

    >>> shared([(1, 2, 7, 9), (1, 2, 8, 8, 9)])
    ((1, 2), (9,))
    """
    head = common(prompts[0], prompts[-1])
    turned = sorted(p[::-1] for p in prompts)
    return head, common(turned[0], turned[-1])[::-1]


def common(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    """Give the longest common beginning of two."""
    size = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    return one[:size]


def fits(prompt: tuple[int, ...], head: tuple[int, ...], tail: tuple[int, ...]) -> bool:
    """Whether a prompt begins and ends like the others."""
    return prompt[: len(head)] == head and prompt[len(prompt) - len(tail) :] == tail
