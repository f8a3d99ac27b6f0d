"""Rewards that cannot teach: the same for all attempts at a task, or against what is correct."""

from __future__ import annotations

from collections.abc import Iterator

from agentrl.diagnose.evidence import Cohort, Evidence, correlation, mean, onset, share
from agentrl.diagnose.finding import Finding

MOST = 0.9
"""Share of groups in which all attempts are rewarded alike; hard tasks may have many such groups at first."""
LEAST = 8
"""Attempts below which equal rewards may be chance."""
NAME = "constant-reward"
REMEDY = "look at the reward function: it must tell good attempts at one task from bad ones"
ROOTS = frozenset(
    {
        "failing-tool",
        "truncation",
        "learning-rate-too-high",
        "wrong-sign",
        "wrong-mask",
        "stale-weights",
        "template-drift",
        "duplicate-attempts",
        "entropy-collapse",
        "unreadable-calls",
        "failures",
        "reward-contradicts",
    }
)
"""What makes attempts fail alike."""


def constant_reward(evidence: Evidence) -> Iterator[Finding]:
    """Group-relative advantages compare attempts at one task; where none differs, every advantage is 0."""
    cohorts = evidence.cohorts
    if sum(len(c.attempts) for c in cohorts) < LEAST:
        return
    flat = unsolved(cohorts, evidence)
    part = len(flat) / len(cohorts)
    if flattened := flattened_share(evidence, cohorts):
        yield Finding(
            name=NAME,
            sentence="The reward is constant where it is used: the environment's rewards differ within "
            "groups, and no attempt gets an advantage from them.",
            evidence=flattened,
            remedy="look at the recipe's score and reward transforms: they make all rewards equal",
            severity=1.0,
            proof=True,
        )
    elif part > MOST or (part := indifferent_share(evidence)) > MOST:
        yield Finding(
            name=NAME,
            sentence=sentence_for(flat),
            evidence=(
                f"{len(flat) / len(cohorts):.0%} of {len(cohorts)} groups have zero variance",
                *disagreement(flat),
                *spread(evidence),
            ),
            remedy=REMEDY
            + "; where no attempt succeeds, take easier tasks (rollout.level) or a better start",
            severity=part,
            proof=any(disagreement(flat)),
            since=onset(((c.step, c.flat) for c in cohorts), MOST),
            episode=flat[0].attempts[0].id,
            follows_from=frozenset() if any(disagreement(flat)) else ROOTS,
        )


def unsolved(cohorts: list[Cohort], evidence: Evidence) -> list[Cohort]:
    """Give the groups that are flat although not all is well: not right, or better elsewhere."""
    flat = [c for c in cohorts if c.flat]
    compared = len(flat) < len(cohorts)
    best = max(a.reward for c in cohorts for a in c.attempts)
    differ = answers_differ(evidence)

    def well(cohort: Cohort) -> bool:
        first = cohort.attempts[0]
        if first.correct is None:
            return compared and first.reward == best
        return cohort.solved and not differ

    return [c for c in flat if not well(c)]


def answers_differ(evidence: Evidence) -> bool:
    """Whether every attempt of the run is right although attempts at one task end with other words."""
    ended = [a for a in evidence.attempts if a.failure is None and not a.truncated]
    if not all(a.correct for a in ended):
        return False
    groups = [
        {repr(e.turns[-1].action) for e in p.episodes if e.turns and e.finish == "terminated"}
        for p in evidence.plays
    ]
    return share(len(words) > 1 for words in groups) > 0.5


def indifferent_share(evidence: Evidence) -> float:
    """Give the share of attempts that ended by themselves, where all of them earned one reward.

    Not where that is because all of them are right.
    """
    whole = [a for a in evidence.attempts if a.failure is None]
    ended = [a for a in whole if not a.truncated]
    if len(ended) < LEAST or len({a.reward for a in ended}) > 1:
        return 0.0
    right = all(a.correct for a in ended)
    return 0.0 if right and not answers_differ(evidence) else len(ended) / len(whole)


def flattened_share(evidence: Evidence, cohorts: list[Cohort]) -> tuple[str, ...]:
    """Say so where groups differ in what the environment gave and not in what was made of it."""
    differ = share(not c.flat for c in cohorts)
    groups = sum(evidence.values("groups"))
    teaching = 1 - sum(evidence.values("zero_variance_groups")) / groups if groups else 1.0
    if (
        differ < 1 - MOST
        or teaching > differ * (1 - MOST)
        or max(evidence.values("masked_share"), default=0) > 0
    ):
        return ()
    return (
        f"{differ:.0%} of the groups have attempts with different rewards from the environment, "
        f"{teaching:.0%} have an advantage other than 0",
    )


def sentence_for(flat: list[Cohort]) -> str:
    """Say what the flat groups are like."""
    rewards = {a.reward for c in flat for a in c.attempts if not a.truncated} or {0.0}
    if len(rewards) > 1:
        return "The reward is constant within groups: it depends on the task and not on what is done."
    (value,) = rewards
    if value == 0:
        return "The reward is constant: every attempt earns 0, so none is better than another."
    return f"The reward is constant: every attempt earns {value:g}, whatever it does."


def disagreement(flat: list[Cohort]) -> tuple[str, ...]:
    """Say so where the environment calls some attempts of a flat group correct and others not."""
    mixed = [c for c in flat if len({a.correct for a in c.attempts}) > 1]
    if not mixed:
        return ()
    return (f"in {len(mixed)} of {len(flat)} such groups some attempts are correct and others are not",)


def spread(evidence: Evidence) -> tuple[str, ...]:
    """Say which rewards there are."""
    rewards = [a.reward for a in evidence.attempts if a.failure is None]
    skipped = sum(bool(s.get("skipped")) for s in evidence.steps)
    words = f"{len(rewards)} attempts, rewards from {min(rewards):g} to {max(rewards):g}"
    return (words, f"{skipped} of {len(evidence.steps)} steps trained nothing") if skipped else (words,)


def contradicting_reward(evidence: Evidence) -> Iterator[Finding]:
    """What is correct must not earn less: the policy learns what it is paid for."""
    found = [
        (c, value)
        for c in evidence.cohorts
        if (value := correlation((a.reward, float(bool(a.correct))) for a in c.attempts)) is not None
    ]
    against = [c for c, value in found if value < 0]
    if not found or mean(value for _, value in found) > -0.3:
        return
    yield Finding(
        name="reward-contradicts",
        sentence="The reward has the wrong sign: attempts that the environment calls correct earn less than "
        "the others of their group.",
        evidence=(
            f"correlation of reward and correct {mean(v for _, v in found):+.2f} in {len(found)} groups",
        ),
        remedy="look at the reward function and at what it subtracts",
        severity=len(against) / len(found),
        proof=True,
        since=against[0].step,
        episode=against[0].attempts[0].id,
    )
