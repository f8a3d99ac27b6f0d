"""What came of it: success that falls, attempts that only grow longer."""

from __future__ import annotations

from collections.abc import Iterator

from agentrl.diagnose.evidence import Evidence, correlation, ends, mean
from agentrl.diagnose.finding import Finding
from agentrl.diagnose.rules.updates import noise, rises

FALLEN = 0.1
LEAST_STEPS = 4
PAID = 0.7
"""Correlation of length and reward within groups."""
GROWN = 1.3
ALL = frozenset(
    {
        "wrong-sign",
        "wrong-mask",
        "stale-weights",
        "template-drift",
        "learning-rate-too-high",
        "failing-tool",
        "truncation",
        "unrelated-advantage",
        "reward-contradicts",
        "failures",
        "entropy-collapse",
        "unreadable-calls",
        "reward-pays-length",
    }
)


def falling_success(evidence: Evidence) -> Iterator[Finding]:
    """Whatever the cause, training that makes a policy worse is not what anybody wanted."""
    found = evidence.values("success")
    first, last = ends(found)
    fall = first - last
    if len(found) < LEAST_STEPS or fall < max(FALLEN, 3 * noise(evidence)):
        return
    yield Finding(
        name="falling-success",
        sentence="Success falls while the run trains.",
        evidence=(f"success {first:.2f} in the first third of the steps, {last:.2f} in the last",),
        remedy="compare an early episode with a late one (`agentrl replay`), and lower learning_rate",
        severity=fall / first,
        since=evidence.series("success")[-len(found) // 3][0],
        follows_from=ALL,
    )


def paid_length(evidence: Evidence) -> Iterator[Finding]:
    """A policy that is paid for length grows longer, not better."""
    pairs = [
        value
        for c in evidence.cohorts
        if (value := correlation((a.tokens, a.reward) for a in c.attempts)) is not None
    ]
    lengths = [mean(a.tokens for a in evidence.attempts if a.step == s["step"]) for s in evidence.steps]
    (first, last), (before, after) = ends(lengths), ends(evidence.values("reward_mean"))
    if not pairs or mean(pairs) < PAID or last < GROWN * max(first, 1) or after <= before:
        return
    if not evidence.values("success") or rises(evidence):
        return  # where nobody says what is correct, the reward may well be about length
    yield Finding(
        name="reward-pays-length",
        sentence="The reward pays for length: longer attempts earn more, and only the length grows.",
        evidence=(
            f"correlation of length and reward within groups {mean(pairs):+.2f}",
            f"{first:.0f} tokens an attempt at first, {last:.0f} at last",
        ),
        remedy="take the length out of the reward, or penalise it (overlong_length of dapo)",
        severity=min(1.0, last / first - 1),
        follows_from=ALL - {"reward-pays-length"},
    )
