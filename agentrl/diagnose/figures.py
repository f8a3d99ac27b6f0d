"""The numbers that a person looks at first, over a whole run."""

from __future__ import annotations

from agentrl.diagnose.evidence import Evidence, correlation, ends, mean, share

Figures = dict[str, float | None]
COURSES = ("success", "reward_mean", "entropy")
"""Shown at the beginning and at the end."""
MEANS = (
    "masked_share",
    "foreign_share",
    "clip_share",
    "grad_norm",
    "moved",
    "direction",
    "mismatch_mean",
    "staleness",
    "truncated_share",
    "failure_share",
)


def figures(evidence: Evidence) -> Figures:
    """Give them; None where a run does not know."""
    found: Figures = {"steps": float(len(evidence.steps)), "attempts": float(len(evidence.attempts))}
    for name in COURSES:
        values = evidence.values(name)
        first, last = ends(values)
        found |= {f"{name}_first": first if values else None, f"{name}_last": last if values else None}
    groups = sum(evidence.values("groups"))
    found["zero_variance_share"] = sum(evidence.values("zero_variance_groups")) / groups if groups else None
    for name in MEANS:
        values = evidence.values(name)
        found[name] = mean(values) if values else None
    return found | behaviour(evidence)


def behaviour(evidence: Evidence) -> Figures:
    """Give what the attempts are like."""
    episodes = [e for _, e in evidence.episodes]
    calls = [c for e in episodes for t in e.turns for c in t.calls]
    pairs = [(a, b) for e in episodes for a, b in zip(e.turns, e.turns[1:], strict=False)]
    lengths = [
        value
        for c in evidence.cohorts
        if (value := correlation((a.tokens, a.reward) for a in c.attempts)) is not None
    ]
    return {
        "tool_error_share": share(not c.ok for c in calls) if calls else None,
        "duplicate_action_share": share(a.action == b.action for a, b in pairs) if pairs else None,
        "reward_length_correlation": mean(lengths) if lengths else None,
    }
