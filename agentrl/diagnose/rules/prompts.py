"""Prompts that are written otherwise in the middle of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from agentrl.diagnose.evidence import Evidence, share
from agentrl.diagnose.finding import Finding
from agentrl.episode import Episode

LEAST_PROMPTS = 8
"""Different prompts that must agree before what they share counts as the template."""
OTHER = 0.9
"""Share of a later step's prompts without it."""
LEAST_OTHER = 4
"""Different prompts in a row that lack it: fewer may be a rare kind of task."""
SAME = 0.5
Ids = tuple[int, ...]


def changing_prompts(evidence: Evidence) -> Iterator[Finding]:
    """What all prompts share is the template (system text, tools, control tokens); it stays as it is."""
    steps: dict[int, list[Episode]] = {0: list(evidence.measured)}
    for step, episode in evidence.episodes:
        steps.setdefault(step, []).append(episode)
    known: set[Ids] = set()
    others: dict[Ids, tuple[int, Episode]] = {}
    for step, episodes in sorted(steps.items()):
        prompts = {prompt_of(e): (step, e) for e in episodes if e.contexts and e.contexts[0].segments}
        if len(known) >= LEAST_PROMPTS and prompts and lack(prompts, known) > OTHER:
            others = prompts | others
        else:
            known.update(prompts, others)
            others = {}
        if len(others) >= LEAST_OTHER:
            since, episode = min(others.values(), key=lambda seen: seen[0])
            yield changed(since, episode, lack(others, known))
            return


def lack(prompts: Collection[Ids], known: Collection[Ids]) -> float:
    """Give the share of prompts that begin or end otherwise than all that are known."""
    head, tail = shared(known)
    return share(not fits(ids, head, tail) for ids in prompts)


def prompt_of(episode: Episode) -> Ids:
    """Give the ids of the first prompt."""
    return tuple(episode.contexts[0].segments[0].ids.tolist())


def changed(step: int, episode: Episode, other: float) -> Finding:
    """Say it."""
    return Finding(
        name="template-drift",
        sentence="Template drift: prompts are written otherwise in the middle of the run (system text, tools "
        "or chat template).",
        evidence=(
            f"from step {step} on, {other:.0%} of the prompts lack the tokens that all before begin and end "
            "with",
        ),
        remedy="keep system text, tools and chat template of a run as they are",
        severity=1.0,
        proof=True,
        since=step,
        episode=episode.id,
    )


def shared(texts: Collection[Ids]) -> tuple[Ids, Ids]:
    """Give the longest common beginning and end; sorted texts differ most at the ends of the list.

    >>> shared([(1, 2, 7, 9), (1, 2, 8, 8, 9)])
    ((1, 2), (9,))
    """
    ordered, turned = sorted(texts), sorted(t[::-1] for t in texts)
    return common(ordered[0], ordered[-1]), common(turned[0], turned[-1])[::-1]


def common(one: Ids, other: Ids) -> Ids:
    """Give the longest common beginning of two."""
    size = next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
    return one[:size]


def fits(prompt: Ids, head: Ids, tail: Ids) -> bool:
    """Whether a prompt begins and ends like the others, for the most part: tasks share words too."""
    begins, ends = common(prompt, head), common(prompt[::-1], tail[::-1])
    return len(begins) >= SAME * len(head) and len(ends) >= SAME * len(tail)
