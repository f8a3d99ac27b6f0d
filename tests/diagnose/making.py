"""Evidence by hand: a sound run of ten steps, and pieces to change."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from agentrl.diagnose.evidence import Attempt, Evidence, Play
from agentrl.diagnose.finding import Finding
from agentrl.diagnose.ranking import diagnose
from agentrl.environment import CallRecord, Observation
from agentrl.episode import Columns, Context, Episode, Finish, Segment, Turn, as_ids
from agentrl.message import Text, ToolResult, answer, call

STEPS, GROUPS, SIZE = 10, 4, 8
CITIES = "rome oslo bonn kyiv lima nice cork bern riga graz".split()


def columns(count: int) -> Columns:
    values = np.full(count, -0.5, dtype=np.float32)
    return Columns(logp=values, untempered=values, entropy=-values, version=as_ids([0] * count))


def said(ids: Sequence[int], turn: int) -> Segment:
    return Segment(kind="action", ids=as_ids(ids), turn=turn, columns=columns(len(ids)))


def looked_up(item: str, found: str, *, ok: bool = True) -> Turn:
    """A turn in which a tool was asked."""
    action = call("city", name=item)
    record = CallRecord(call=action.calls[0], valid=True, ok=ok, seconds=0.0)
    result = ToolResult(call_id=action.calls[0].id, name="city", text=found, error=not ok)
    return Turn(index=0, action=action, observation=Observation(parts=(result,)), calls=(record,))


def attempt(
    name: str, number: int, *, right: bool, task: str = "", finish: Finish = "terminated", salt: int = 0
) -> Episode:
    """Two turns: a city is looked up, and named (or another one)."""
    city, other = CITIES[number % 10], CITIES[(number + 1 + salt) % 10]
    turns = (
        looked_up(f"person {number}", city),
        Turn(index=1, action=answer(city if right else other), observation=Observation()),
    )
    context = Context(
        segments=(
            Segment(kind="prompt", ids=as_ids([1, 2, 3, 10 + number % 40, 4])),
            said([5, 10 + number % 40, 6], 0),
            Segment(kind="observation", ids=as_ids([7, 60 + number % 10]), turn=0),
            said([60 + number % 10 if right else 70 + salt, 6], 1),
        )
    )
    return Episode(
        id=name,
        task_id=f"task-{number}",
        group_id=name.partition("/")[0],
        finish=finish,
        contexts=(context,),
        turns=turns,
        first=Observation(parts=(Text(task or f"Where does person {number} live?"),)),
        reward=float(right),
        correct=right,
    )


def failed(name: str, number: int, **given: Any) -> Episode:
    """An attempt that comes to nothing."""
    return attempt(name, number, **(given | {"right": False}))


def group(step: int, index: int, make: Callable[..., Episode] = attempt, **given: Any) -> Play:
    """Attempts at one task; more and more of them are right."""
    name, number = f"{step}-{index}", step * GROUPS + index
    return Play(
        step=step,
        episodes=tuple(
            make(f"{name}/{i}", number, right=i < 1 + step // 2, salt=i % 3, **given) for i in range(SIZE)
        ),
    )


def row(play: Play, episode: Episode) -> Attempt:
    return Attempt(
        step=play.step,
        group=episode.group_id,
        id=episode.id,
        reward=episode.reward,
        correct=episode.correct,
        finish=episode.finish,
        failure=None if episode.failure is None else episode.failure.kind,
        turns=len(episode.turns),
        tokens=sum(map(len, episode.contexts)),
    )


def metrics(step: int, plays: Sequence[Play]) -> dict[str, Any]:
    """What a sound step reports."""
    episodes = [e for p in plays if p.step == step for e in p.episodes]
    right = [e.correct for e in episodes if e.correct is not None]
    return {
        "step": step,
        "steps": STEPS,
        "success": sum(right) / len(right) if right else None,
        "reward_mean": sum(e.reward for e in episodes) / len(episodes),
        "groups": GROUPS,
        "zero_variance_groups": 0,
        "skipped": False,
        "entropy": 0.3,
        "clip_share": 0.02,
        "grad_norm": 0.5,
        "learning_rate": 1e-3,
        "mismatch_mean": 3e-7,
        "mismatch_max": 1e-5,
        "mismatch_first": 3e-7,
        "staleness": 0.0,
        "truncated_share": 0.0,
        "failures": {},
        "retried": {},
        "failure_share": 0.0,
        "failure_share_low": 0.0,
        "failure_share_high": 0.0,
        "foreign_share": 0.0,
        "masked_share": 0.0,
        "direction": 0.98,
        "moved": 0.1,
        "moved_right": 0.8,
    }


def of_plays(plays: Sequence[Play]) -> Evidence:
    return Evidence(
        config={"update": {"precision": "fp32"}, "algorithm_settings": {"truncation": "keep"}},
        steps=[metrics(s, plays) for s in sorted({p.step for p in plays})],
        attempts=[row(p, e) for p in plays for e in p.episodes],
        plays=plays,
    )


def sound(make: Callable[..., Episode] = attempt, **given: Any) -> Evidence:
    """A run with nothing wrong, but for what `make` does."""
    return of_plays([group(s, i, make, **given) for s in range(1, STEPS + 1) for i in range(GROUPS)])


def changed(evidence: Evidence, **columns: Callable[[int], Any]) -> Evidence:
    """Give the run with other numbers: a function of the step for each."""
    steps = [dict(s) | {name: make(s["step"]) for name, make in columns.items()} for s in evidence.steps]
    return replace(evidence, steps=steps)


def names(evidence: Evidence) -> list[str]:
    """Name what is found, the first cause first."""
    return [f.name for f in diagnose(evidence)]


def first(evidence: Evidence) -> Finding:
    return diagnose(evidence)[0]
