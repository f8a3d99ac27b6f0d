"""Learning away from the reward: advantages or updates with the wrong sign, or with no relation to it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from agentrl.diagnose.evidence import Evidence, Series, mean, share
from agentrl.diagnose.finding import Finding

AGAINST = -0.3
"""Mean correlation of advantage and reward below which the sign is wrong; sound recipes are near 1."""
UNRELATED = 0.2
"""Below this the two have nothing to do with each other."""
LEAST_STEPS = 2
"""A single step tells only where it is clear."""
CLEAR = -0.6
BLURRED = 2.0
"""Nats per token; so large a step moves everything, whichever way it was meant."""


def wrong_sign(evidence: Evidence) -> Iterator[Finding]:
    """Attempts that earned more than their group must get more advantage, whatever the recipe."""
    found = evidence.series("direction")
    middle = mean(value for _, value in found)
    if found and middle < AGAINST:
        yield Finding(
            name="wrong-sign",
            sentence="The advantages have the wrong sign: attempts that earn more than the others of their "
            "group are made less likely.",
            evidence=(
                f"correlation of advantage and reward {middle:+.2f} over {len(found)} steps; a sound recipe "
                "is near +1",
                *changes(evidence),
            ),
            remedy="look at the recipe's advantage, shapers and reward transforms: one of them turns the "
            "sign (reward minus baseline, not baseline minus reward)",
            severity=share(value < 0 for _, value in found),
            proof=True,
            since=next(step for step, value in found if value < 0),
        )
    elif (late := uncertain_top(found)) is not None and late < UNRELATED:
        yield Finding(
            name="unrelated-advantage",
            sentence="The advantages have nothing to do with the rewards that the environment gives.",
            evidence=(
                f"correlation of advantage and reward {middle:+.2f} over {len(found)} steps",
                *changes(evidence),
            ),
            remedy="look at what stands between the two: the recipe's score, reward transforms, advantage "
            "and shapers; rewards may be attached to the wrong attempts",
            severity=1 - abs(middle),
            since=found[0][0],
        )


def wrong_update(evidence: Evidence) -> Iterator[Finding]:
    """With the right advantages, a step must still raise the log-probability of what earned more."""
    sizes = dict(evidence.series("moved"))
    found = [(s, v) for s, v in evidence.series("moved_right") if sizes.get(s, 0.0) < BLURRED]
    top = uncertain_top(found)
    if top is None or top > 0 or mean(evidence.values("direction")) < AGAINST:
        return
    yield Finding(
        name="wrong-sign",
        sentence="The updates have the wrong sign: each step makes attempts that earn more than the others "
        "of their group less likely.",
        evidence=changes(evidence),
        remedy="look at the loss: surrogate, regularisers and the optimiser's direction; the advantages "
        "themselves have the right sign",
        severity=share(value < 0 for _, value in found),
        since=found[0][0],
        follows_from=frozenset({"learning-rate-too-high", "wrong-mask", "template-drift", "stale-weights"}),
    )


def uncertain_top(found: Series) -> float | None:
    """Give the upper end of the mean's interval, two standard errors; None of too few values."""
    if len(found) < LEAST_STEPS:
        return found[0][1] if found and found[0][1] < CLEAR else None
    middle = mean(value for _, value in found)
    spread = sum((value - middle) ** 2 for _, value in found) / (len(found) - 1)
    return middle + 2 * math.sqrt(spread / len(found))


def changes(evidence: Evidence) -> tuple[str, ...]:
    """Say which way the log-probabilities went, and the success."""
    lines = []
    if moved := evidence.values("moved_right"):
        lines.append(
            f"correlation of the updates' effect and reward {mean(moved):+.2f} over {len(moved)} steps"
        )
    if success := evidence.progress:
        lines.append(f"success {success[0]:.2f} in the first step, {success[-1]:.2f} in the last")
    return tuple(lines)
