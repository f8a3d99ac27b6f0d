"""What the policy does: calls that nobody can read, the same again and again, no choice left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from agentrl.diagnose.evidence import Evidence, Play, ends, mean, onset, share
from agentrl.diagnose.finding import Finding
from agentrl.episode import Episode, Turn
from agentrl.message import ToolResult

UNREADABLE = 0.5
COPIES = 0.8
REPEATED = 0.6
COLLAPSED = 0.05
"""Share of its first entropy that is left of the last."""
DETERMINED = 0.02
"""Entropy in nats at which nearly every token is the only choice."""
GOOD = 0.8
"""Success at which little choice is what it should be."""
CAUSES = frozenset(
    {"learning-rate-too-high", "wrong-sign", "wrong-mask", "stale-weights", "reward-contradicts"}
)


def unreadable_calls(evidence: Evidence) -> Iterator[Finding]:
    """What cannot be read as a call does nothing: it was never taught, or the format is another one."""
    turns = [
        (step, e, bool(t.action.malformed) and not t.cut_off)
        for step, e in evidence.episodes
        for t in e.turns
    ]
    bad = [(step, e) for step, e, wrong in turns if wrong]
    part = len(bad) / max(len(turns), 1)
    late = share(wrong for _, _, wrong in turns[-len(turns) // 3 :])
    if part < UNREADABLE or late < UNREADABLE:
        return
    step, episode = bad[0]
    message = next(t.action.malformed[0] for t in episode.turns if t.action.malformed)
    yield Finding(
        name="unreadable-calls",
        sentence="Most of what the policy writes cannot be read as a call: its template or dialect is not "
        "the one that it was taught.",
        evidence=(f"{part:.0%} of {len(turns)} turns are malformed", f"such as: {message[:160]}"),
        remedy="compare the model's chat template with the dialect that is used, or teach the format first",
        severity=part,
        since=onset((step, wrong) for step, _, wrong in turns),
        episode=episode.id,
        follows_from=CAUSES | {"template-drift", "truncation"},
    )


def duplicate_attempts(evidence: Evidence) -> Iterator[Finding]:
    """Attempts at a task that are all the same cannot be compared."""
    plays = [p for p in evidence.plays if len(members(p)) > 1]
    copies = [p for p in plays if len({said(e) for e in members(p)}) == 1]
    part = len(copies) / max(len(plays), 1)
    entropy = mean(evidence.values("entropy"))
    if part < COPIES or all(e.correct for p in copies for e in members(p)):
        return
    equal = entropy > DETERMINED
    yield Finding(
        name="duplicate-attempts",
        sentence="The attempts at each task are copies of each other"
        + (": they seem to be sampled with one seed." if equal else ": the policy has no choice left."),
        evidence=(
            f"in {part:.0%} of {len(plays)} groups all attempts have the same tokens",
            f"entropy {entropy:.2g} nats a token",
        ),
        remedy="give each attempt of a group a seed of its own"
        if equal
        else "raise temperature, or begin anew",
        severity=part,
        proof=equal,
        since=onset((p.step, p in copies) for p in plays),
        episode=members(copies[0])[0].id,
        follows_from=CAUSES | {"entropy-collapse"},
    )


def members(play: Play) -> list[Episode]:
    """Give the episodes of a group that did not fail."""
    return [e for e in play.episodes if e.failure is None]


def said(episode: Episode) -> bytes:
    """Give what the policy sampled."""
    parts = [s.ids for c in episode.contexts for s in c.segments if s.sampled]
    return np.concatenate(parts).tobytes() if parts else b""


def repeated_actions(evidence: Evidence) -> Iterator[Finding]:
    """Doing again what was just done, and hearing the same, uses up the turns; two steps north do not."""
    pairs = [
        (step, e, (before.action, heard(before)) == (after.action, heard(after)))
        for step, e in evidence.episodes
        for before, after in zip(e.turns, e.turns[1:], strict=False)
    ]
    again = [(step, e) for step, e, same in pairs if same]
    part = len(again) / max(len(pairs), 1)
    late = share(same for _, _, same in pairs[-len(pairs) // 3 :])
    if part < REPEATED or late < REPEATED or ends(evidence.progress)[1] > GOOD:
        return
    yield Finding(
        name="repeated-actions",
        sentence="The policy does the same thing again and again within an attempt.",
        evidence=(
            f"{part:.0%} of {len(pairs)} actions are equal to the one before and are answered alike, "
            f"{late:.0%} in the end",
        ),
        remedy="show in the observation what an action has changed, and say there what did not work",
        severity=part * 0.5,
        since=onset((step, same) for step, _, same in pairs),
        episode=again[0][1].id,
        follows_from=CAUSES
        | {"failing-tool", "entropy-collapse", "template-drift", "constant-reward", "unreadable-calls"},
    )


def heard(turn: Turn) -> tuple[object, ...]:
    """Give what followed a turn, whatever its calls were numbered."""
    return tuple(replace(p, call_id="") if isinstance(p, ToolResult) else p for p in turn.observation.parts)


def entropy_collapse(evidence: Evidence) -> Iterator[Finding]:
    """A policy without choice makes one attempt eight times; unless it is right, it stays wrong."""
    found = evidence.series("entropy")
    first, last = ends([value for _, value in found])
    success = ends(evidence.values("success"))[1] if evidence.values("success") else 0.0
    flat = share(c.flat and not c.solved for c in evidence.cohorts[-len(evidence.cohorts) // 3 :])
    if len(found) < 3 or last > DETERMINED or last > COLLAPSED * found[0][1] or success > GOOD or flat < 0.5:
        return
    yield Finding(
        name="entropy-collapse",
        sentence="The entropy has collapsed: the policy has no choice left before it is right.",
        evidence=(
            f"entropy {found[0][1]:.2g} nats a token at first, {last:.2g} at last; success {success:.2f}",
            f"{flat:.0%} of the last groups have attempts of one reward",
        ),
        remedy="lower learning_rate, raise clip_high or temperature, or add kl",
        severity=flat,
        since=next(step for step, value in found if value <= max(DETERMINED, last)),
        follows_from=CAUSES | {"template-drift", "constant-reward"},
    )
