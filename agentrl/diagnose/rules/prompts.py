"""Prompts and observations that are written otherwise in the middle of a run."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from agentrl.diagnose.evidence import Evidence, share
from agentrl.diagnose.finding import Finding
from agentrl.episode import Episode, Kind

LEAST_TEXTS = 8
"""Different texts that must agree before what they share counts as the template."""
OTHER = 0.9
"""Share of a later step's texts without it."""
KINDS: tuple[Kind, ...] = ("prompt", "observation")
Ids = tuple[int, ...]


def changing_prompts(evidence: Evidence) -> Iterator[Finding]:
    """What all texts from outside share is the template (system text, tools, control tokens); it stays."""
    steps: dict[int, list[Episode]] = {0: list(evidence.measured)}
    for step, episode in evidence.episodes:
        steps.setdefault(step, []).append(episode)
    for kind in KINDS:
        known: set[Ids] = set()
        for step, episodes in sorted(steps.items()):
            texts = {ids for e in episodes for ids in texts_of(e, kind)}
            if len(known) >= LEAST_TEXTS and texts:
                head, tail = shared(known)
                other = share(not fits(ids, head, tail) for ids in texts)
                if other > OTHER:
                    yield changed(step, episodes[0], other, kind)
                    return
            known |= texts


def texts_of(episode: Episode, kind: Kind) -> Iterator[Ids]:
    """Give the ids of the first prompt, or of what was observed."""
    segments = [s for c in episode.contexts[:1] for s in c.segments if s.kind == kind]
    for segment in segments[:1] if kind == "prompt" else segments:
        yield tuple(segment.ids.tolist())


def changed(step: int, episode: Episode, other: float, kind: Kind) -> Finding:
    """Say it."""
    return Finding(
        name="template-drift",
        sentence=f"Template drift: {kind}s are written otherwise in the middle of the run (system text, "
        "tools or chat template).",
        evidence=(
            f"in step {step}, {other:.0%} of the {kind}s lack the tokens that all before begin and end with",
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
    """Whether a prompt begins and ends like the others."""
    return prompt[: len(head)] == head and prompt[len(prompt) - len(tail) :] == tail
