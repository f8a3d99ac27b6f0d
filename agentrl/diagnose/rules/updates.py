"""Steps that move the policy too far, or not at all."""

from __future__ import annotations

import math
from collections.abc import Iterator

from agentrl.diagnose.evidence import Evidence, ends, mean
from agentrl.diagnose.finding import Finding

FAR = 2.0
"""Mean change of a token's log-probability by one step, in nats; clips allow about a quarter to each."""
OFTEN = 0.2
"""Share of the updates; small batches have an outlier now and then."""
RISEN = 0.05
"""Success that has risen by more than this excuses large steps."""
STILL = 0.15
"""One step against the entropy, which is what log-probabilities can change by; a tenth of what is usual."""
NOTHING = 0.5
"""All planned steps together, in nats: what one or two usual ones do."""
SOLVED = 0.8
"""Success at which little is left to be changed."""
MOSTLY = 0.5
"""Share of what was missing that a run has gained; then small steps were enough."""
LEAST_STEPS = 3


def too_large(evidence: Evidence) -> Iterator[Finding]:
    """A gradient says which way is better nearby; a step far away destroys what was known."""
    found = evidence.series("moved")
    far = [(step, value) for step, value in found if value > FAR]
    ending = evidence.ending
    burst = ending is not None and ending.error == "NonFiniteError"
    often = len(far) >= OFTEN * len(found)
    if not burst and (not far or not often or rises(evidence)):
        return
    lines = [
        f"step {step}: a token's log-probability changed by {v:.2g} nats in the mean" for step, v in far[:3]
    ]
    if ending is not None and burst:
        lines.append(f"step {ending.step}: {ending.message}")
    yield Finding(
        name="learning-rate-too-high",
        sentence="The learning rate is too high: single steps change the policy beyond recognition.",
        evidence=(*lines, *around(evidence)),
        remedy=f"lower learning_rate ({rate(evidence)} now) by 10 to 100; fewer inner_epochs or a smaller "
        "grad_clip help too",
        severity=1.0 if burst else len(far) / len(found),
        proof=burst or mean(v for _, v in far) > 2 * FAR,
        since=far[0][0] if far else ending.step if ending else 1,
        follows_from=frozenset({"wrong-mask", "template-drift", "stale-weights", "reward-contradicts"}),
    )


def too_small(evidence: Evidence) -> Iterator[Finding]:
    """A policy that does not change cannot get better, however good its gradients are."""
    moved = evidence.values("moved")
    planned = max((s.get("steps", 0) for s in evidence.steps), default=0)
    pace, entropy = mean(moved), mean(evidence.values("entropy"))
    if len(moved) < LEAST_STEPS or pace > STILL * entropy or pace * planned > NOTHING:
        return
    first, last = ends(evidence.progress)
    if last > SOLVED or (rises(evidence) and last - first > MOSTLY * (1 - first)):
        return
    yield Finding(
        name="learning-rate-too-low",
        sentence="The learning rate is too low: the updates hardly change the policy"
        + (", and success rises slowly." if rises(evidence) else "."),
        evidence=(
            f"{len(moved)} updates changed a token's log-probability by {pace:.2g} nats each in the mean: "
            f"{planned} steps make {pace * planned:.2g} at most, and the entropy is {entropy:.2g}",
            f"learning rate {rate(evidence)}, gradient norm {mean(evidence.values('grad_norm')):.2g}",
            *around(evidence)[-1:],
        ),
        remedy=f"raise learning_rate ({rate(evidence)} now) by 10 to 100; a large weight of kl also holds "
        "the policy where it is",
        severity=1 - pace * planned / NOTHING / 2,
        since=evidence.series("moved")[0][0],
    )


def rises(evidence: Evidence) -> bool:
    """Whether success is clearly higher at the end than at the beginning."""
    first, last = ends(evidence.progress)
    return last > first + RISEN + 2 * noise(evidence)


def noise(evidence: Evidence) -> float:
    """Give the standard error of the difference between the success of two thirds of the run, at most."""
    return math.sqrt(0.5 / max(len(evidence.attempts) / 3, 1))


def around(evidence: Evidence) -> tuple[str, ...]:
    """Give what else changes where steps are too large."""
    lines = []
    if clipped := evidence.values("clip_share"):
        lines.append(
            f"clip share up to {max(clipped):.0%}, gradient norm {max(evidence.values('grad_norm')):.2g}"
        )
    if entropy := evidence.values("entropy"):
        lines.append(f"entropy {entropy[0]:.2g} nats at first, {entropy[-1]:.2g} at last")
    if success := evidence.progress:
        lines.append(f"success {success[0]:.2f} at first, {success[-1]:.2f} at last")
    return tuple(lines)


def rate(evidence: Evidence) -> str:
    """Write the highest learning rate that was used."""
    found = evidence.values("learning_rate")
    return f"{max(found):.2g}" if found else str(evidence.setting("learning_rate"))
