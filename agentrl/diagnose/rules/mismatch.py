"""Engine and trainer apart: the one samples under weights or tokens that the other does not train on.

Old weights put the two at most as far apart as the updates since have moved the policy, and not at all before
the first update. Other tokens put them apart from the start, or by more than any update has moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from agentrl.diagnose.evidence import Evidence
from agentrl.diagnose.finding import Finding

ROUNDING = {"fp32": 2e-3, "bf16": 0.12}
"""Mean distance of a token's log-probability, in nats, that types and kernels can explain."""
GROWTH = 5.0
"""Times farther apart in later turns than in first ones: something happens between them."""
BEYOND = 3.0
"""Times what the updates have moved; farther apart than this, no old weights bring the two."""
LAG = 0.5
"""Mean age of the sampled tokens' weights, in updates per step so far, at which no hand-over arrives."""
LEAST_LAG = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far engine and trainer were apart in one step."""

    step: int
    mean: float
    first: float | None
    """Over tokens of first turns alone."""
    path: float | None
    """How far all updates before have moved the policy, at most; None where that was not recorded."""

    @property
    def from_old_weights(self) -> bool:
        """Whether weights from before some of the updates could bring it about."""
        return self.path is None or self.mean <= BEYOND * self.path

    @property
    def words(self) -> str:
        """What was measured."""
        return f"step {self.step}: {self.mean:.2g} nats a token in the mean"


def distances(evidence: Evidence) -> list[Distance]:
    """Give all that is known, that of the step in which the run gave up included."""
    rows = list(evidence.steps)
    if evidence.ending is not None and "mismatch_mean" in evidence.ending.facts:
        rows.append({**evidence.ending.facts, "step": evidence.ending.step})
    found: list[Distance] = []
    path: float | None = 0.0
    for row in rows:
        if row.get("skipped") or row.get("mismatch_mean") is None:
            continue  # nothing was compared, and nothing was moved
        if not row.get("staleness"):  # else the weights are known to be older: `lagging` looks how much
            first = row.get("mismatch_first")
            found.append(Distance(step=row["step"], mean=row["mismatch_mean"], first=first, path=path))
        moved = row.get("moved")
        path = None if path is None or moved is None else path + moved
    return found


def apart(evidence: Evidence) -> tuple[list[Distance], int]:
    """Give the steps in which the two were farther apart than rounding explains, and how many there are."""
    found = distances(evidence)
    rounding = ROUNDING.get(evidence.config.get("update", {}).get("precision", "fp32"), ROUNDING["bf16"])
    return [d for d in found if d.mean > rounding], len(found)


def from_the_start(far: list[Distance]) -> bool:
    """Whether the two were apart before any update, when all weights were the same."""
    return any(d.path == 0 for d in far)


def stale_weights(evidence: Evidence) -> Iterator[Finding]:
    """Attempts of an old policy say little about the present one, and their success never rises."""
    far, looked = apart(evidence)
    old = [d for d in far if d.from_old_weights]
    ending = evidence.ending
    if ending is not None and ending.error == "WeightsDiffer" and "mismatch_mean" not in ending.facts:
        yield stale((f"step {ending.step}: {ending.message}",), severity=1.0, since=ending.step)
    elif len(old) > len(far) / 2 and not from_the_start(far):
        lines = [d.words for d in (old[0], old[-1])[: len(old)]]
        if ending is not None and ending.error == "WeightsDiffer":
            lines.append(ending.message)
        yield stale(
            (*lines, "about as far as the updates have moved the policy, and nothing before the first one"),
            severity=1.0 if ending else len(old) / looked,
            since=old[0].step,
        )
    elif late := lagging(evidence):
        step, lag = late[-1]
        yield stale(
            (f"step {step}: sampled under weights that were {lag:.1f} updates old",),
            severity=len(late) / len(evidence.steps),
            since=late[0][0],
        )


def lagging(evidence: Evidence) -> list[tuple[int, float]]:
    """Give the steps whose tokens are nearly as old as the run."""
    found = evidence.series("staleness")
    return [(step, lag) for step, lag in found if lag > max(LEAST_LAG, LAG * (step - 1))]


def stale(lines: tuple[str, ...], *, severity: float, since: int) -> Finding:
    """Say it."""
    return Finding(
        name="stale-weights",
        sentence="The engine samples from stale weights: what is trained does not reach it, or only partly.",
        evidence=lines,
        remedy="look at the hand-over of weights: the engine's update() must take every tensor, and drop "
        "what was cached (keys, values, prefixes) under older ones",
        severity=severity,
        proof=True,
        since=since,
    )


def template_drift(evidence: Evidence) -> Iterator[Finding]:
    """Where a conversation is written again for training, it is easily not what was sampled from."""
    far, looked = apart(evidence)
    other = [d for d in far if not d.from_old_weights]
    if not other or (len(other) < len(far) / 2 and not from_the_start(far)):
        return
    worst = max(other, key=lambda d: d.mean)
    lines = [worst.words, "more than the updates before it have moved the policy: these are other tokens"]
    if worst.first is not None and worst.first < worst.mean / GROWTH:
        lines.append(
            f"in first turns only {worst.first:.2g}: the two part behind the first turn, where the "
            "conversation is written again"
        )
    yield Finding(
        name="template-drift",
        sentence="Template drift: the tokens that are trained on are not those that the engine sampled from; "
        "the conversation is written (chat template, tokenisation) in another way.",
        evidence=tuple(lines),
        remedy="keep the ids that were fed and sampled and never write or tokenise the conversation again; "
        "compare the chat template of the engine with that of the training rows",
        severity=1.0 if evidence.ending else len(far) / looked,
        proof=True,
        since=other[0].step,
    )
