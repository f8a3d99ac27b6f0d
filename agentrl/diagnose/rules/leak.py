"""The answer stands in the prompt: what is learnt is to copy it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from agentrl.diagnose.evidence import Evidence, mean, share
from agentrl.diagnose.finding import Finding
from agentrl.diagnose.rules.prompts import shared
from agentrl.episode import Episode

LEAST_TASKS = 6
FOUND = 0.8
"""Share of tasks in which one and the same place of the prompt holds the answer."""
BY_CHANCE = 0.5
"""The same for another task's answer must be rarer by this much."""
VARIED = 0.5
"""Largest share of one answer among all: a constant answer stands wherever it stands."""
LABELS = frozenset("answer answers solution gold expected target result key hint truth label correct".split())
"""Words beside an answer that tell a leak from a task of copying, where there is nothing to look up."""
WORD = re.compile(r"\w+|[^\w\s]")
TAG = re.compile(r"<[^<>]*>")
Place = tuple[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """A task with an attempt that was right."""

    episode: Episode
    prompt: list[str]
    answers: tuple[list[str], ...]


def leaking_prompt(evidence: Evidence) -> Iterator[Finding]:
    """A place of the prompt that holds the right answer of nearly every task makes the tools superfluous."""
    solved = solved_episodes(evidence)
    for tasks in (by_words(solved), by_tokens(solved)):
        found = leaking_place(tasks)
        if found is None:
            continue
        place, part = found
        if is_interactive(evidence) or is_labelled(tasks, place):
            yield leak(evidence, tasks, place, part)
            return


def leaking_place(tasks: Sequence[Solved]) -> tuple[Place, float] | None:
    """Give the place where most answers stand, and how many; None where there is no such place."""
    if len(tasks) < LEAST_TASKS or is_constant(tasks):
        return None
    found, others = Counter[Place](), Counter[Place]()
    for task, other in zip(tasks, [*tasks[1:], tasks[0]], strict=True):
        found.update(places(task.prompt, task.answers))
        others.update(places(task.prompt, other.answers))
    if not found:
        return None
    place = min(found, key=lambda p: (-found[p], p[0], str(p[1])))  # of equal ones always the same
    part = found[place] / len(tasks)
    return (place, part) if part >= FOUND and part - others[place] / len(tasks) >= BY_CHANCE else None


def leak(evidence: Evidence, tasks: Sequence[Solved], place: Place, part: float) -> Finding:
    """Say it."""
    example = next(t for t in tasks if place in places(t.prompt, t.answers)).episode
    said = shortened(TAG.sub(" ", example.turns[-1].action.text).strip())
    return Finding(
        name="leaking-prompt",
        sentence="The prompt leaks the answer: the right answer stands in what the task shows, so it can be "
        "copied instead of found.",
        evidence=(
            f"in {part:.0%} of {len(tasks)} solved tasks the answer stands {where(place)}",
            f"such as {said!r} for the task {shortened(example.first.text)!r}",
            *without_calls(evidence),
        ),
        remedy="take the answer out of what the environment shows (task text, system prompt, observations)",
        severity=part,
        proof=True,
        episode=example.id,
    )


def solved_episodes(evidence: Evidence) -> list[Episode]:
    """Give one right episode of each task that was solved."""
    rewards = [e.reward for _, e in evidence.episodes]
    best, least = max(rewards, default=0.0), min(rewards, default=0.0)
    found: dict[str, Episode] = {}
    for _, episode in evidence.episodes:
        right = episode.correct if episode.correct is not None else episode.reward == best > least
        if right and episode.turns:
            found.setdefault(episode.task_id, episode)
    return list(found.values())


def by_words(episodes: Sequence[Episode]) -> list[Solved]:
    """Give tasks and answers as words."""
    pairs = [(e, answers_of(e)) for e in episodes]
    return [Solved(episode=e, prompt=words(e.first.text), answers=a) for e, a in pairs if a]


def by_tokens(episodes: Sequence[Episode]) -> list[Solved]:
    """Give prompts and last actions as token ids, without what all actions begin and end with.

    So the system text and whatever else a template shows is looked at too.
    """
    pairs = [(e, e.contexts[-1].segments) for e in episodes if e.contexts and e.contexts[-1].segments]
    last = [[s.ids.tolist() for s in segments if s.kind == "action"][-1:] for _, segments in pairs]
    texts = {tuple(ids) for found in last for ids in found}
    head, tail = map(len, shared(texts)) if len(texts) > 1 else (0, 0)
    return [
        Solved(episode=e, prompt=ids_of(segments[0].ids), answers=(ids_of(ids[head : len(ids) - tail]),))
        for (e, segments), found in zip(pairs, last, strict=True)
        for ids in found
        if len(ids) > head + tail
    ]


def ids_of(ids: Iterable[int]) -> list[str]:
    """Write token ids as words."""
    return [f"token {int(i)}" for i in ids]


def answers_of(episode: Episode) -> tuple[list[str], ...]:
    """Give what may be the answer in the last action: its words, or an argument."""
    action = episode.turns[-1].action
    said = [TAG.sub(" ", action.text), *(str(v) for c in action.calls for v in c.arguments.values())]
    return tuple(found for text in said if (found := words(text)))


def words(text: str) -> list[str]:
    """Cut a text into words and signs."""
    return WORD.findall(text.lower())


def is_constant(tasks: Sequence[Solved]) -> bool:
    """Whether most tasks have one answer."""
    counts = Counter(" ".join(t.answers[0]) for t in tasks)
    return counts.most_common(1)[0][1] > VARIED * len(tasks)


def places(prompt: list[str], answers: Sequence[list[str]]) -> set[Place]:
    """Name the places of a prompt where an answer stands, as they may be named in every prompt."""
    found: set[Place] = set()
    counts = Counter(prompt)
    for answer in answers:
        size = len(answer)
        for at in range(len(prompt) - size + 1):
            if prompt[at : at + size] == answer:
                found |= {("at", at), ("from the end", len(prompt) - at - size)}
                if at and counts[prompt[at - 1]] == 1:
                    found.add(("after", prompt[at - 1]))
                if at > 1:
                    found.add(("after", " ".join(prompt[at - 2 : at])))
    return found


def is_interactive(evidence: Evidence) -> bool:
    """Whether there is something to be looked up or tried: tools, or more than one turn."""
    return any(len(e.turns) > 1 or e.num_calls for _, e in evidence.episodes)


def is_labelled(tasks: Sequence[Solved], place: Place) -> bool:
    """Whether the prompts have a word beside the answer that says what it is."""
    near = [beside(t) for t in tasks if place in places(t.prompt, t.answers)]
    return share(bool(n & LABELS) for n in near) > FOUND


def beside(task: Solved) -> set[str]:
    """Give the few words before an answer in the prompt."""
    found: set[str] = set()
    for answer in task.answers:
        for at in range(len(task.prompt) - len(answer) + 1):
            if task.prompt[at : at + len(answer)] == answer:
                found |= set(task.prompt[max(0, at - 4) : at])
    return found


def where(place: Place) -> str:
    """Name a place for a person."""
    kind, value = place
    if kind == "after":
        return f"right after {value!r}"
    return f"{value} words from the end" if kind == "from the end" else f"as word {int(value) + 1}"


def without_calls(evidence: Evidence) -> tuple[str, ...]:
    """Say how many right attempts did without tools."""
    right = [e for _, e in evidence.episodes if e.correct]
    if not any(e.num_calls for _, e in evidence.episodes) or not right:
        return ()
    return (f"{mean(float(not e.num_calls) for e in right):.0%} of the right attempts call no tool",)


def shortened(text: str, length: int = 160) -> str:
    """Leave out the middle of a long text."""
    return text if len(text) <= length else f"{text[: length // 2]} … {text[-length // 2 :]}"
