"""Learning away from the reward: advantages or updates with the wrong sign, or with no relation to it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from agentrl.diagnose.evidence import Evidence, Series, mean, share
from agentrl.diagnose.finding import Finding

AGAINST = -0.3
"""Mean correlation of advantage and reward below which the sign is wrong; sound recipes are near 1."""
UNRELATED = 0.2
"""Below this the two have nothing to do with each other."""
LEAST_STEPS = 2
CLEAR = -0.5
"""Mean correlation of the updates' effect and reward that sound runs never come to, be it after one step."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a step did to the log-probabilities of what it was trained on."""

    step: int
    size: float
    """Mean change of a token, in nats."""
    direction: float
    """Correlation with the reward."""
    weight: float
    """Groups that taught, times the size: what little moves is noise."""


def effects(evidence: Evidence) -> list[Effect]:
    """Give that of each step."""
    return [
        Effect(
            step=s["step"],
            size=s["moved"],
            direction=s["moved_right"],
            weight=s["moved"] * (s["groups"] - s["zero_variance_groups"]),
        )
        for s in evidence.steps
        if s.get("moved") is not None and s.get("moved_right") is not None
    ]


def wrong_update(evidence: Evidence) -> Iterator[Finding]:
    """With the right advantages, a step must still raise the log-probability of what earned more."""
    found = [s for s in effects(evidence) if s.size < BLURRED]
    weight = sum(s.weight for s in found)
    if not weight or mean(evidence.values("direction")) < AGAINST:
        return
    middle = sum(s.weight * s.direction for s in found) / weight
    top = uncertain_top([(s.step, s.direction) for s in found])
    if middle > CLEAR and (top is None or top > 0 or middle > 0):
        return
    yield Finding(
        name="wrong-sign",
        sentence="The updates have the wrong sign: each step makes attempts that earn more than the others "
        "of their group less likely.",
        evidence=changes(evidence),
        remedy="look at the loss: surrogate, regularisers and the optimiser's direction; the advantages "
        "themselves have the right sign",
        severity=share(s.direction < 0 for s in found),
        since=found[0].step,
        follows_from=frozenset({"learning-rate-too-high", "wrong-mask", "template-drift", "stale-weights"}),
    )


def uncertain_top(found: Series) -> float | None:
    """Give the upper end of the mean's interval, two standard errors; None of too few values."""
    if len(found) < LEAST_STEPS:
        return None
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
