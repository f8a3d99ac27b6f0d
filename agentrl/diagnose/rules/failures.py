"""Infrastructure that fails, and whatever else made the run give up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from agentrl.diagnose.evidence import Evidence, mean
from agentrl.diagnose.finding import Finding

MUCH = 0.1
"""Share of failed attempts; retries hide fewer."""
ESCAPE = 0.1
"""Difference between poor and rich groups at which failures go along with the reward."""
TOOL = re.compile(r"\btool '(\w+)'")
KNOWN = frozenset({"WeightsDiffer", "NonFiniteError", "FailureBudgetSpent"})
"""Errors that a rule of their own reads."""
REMEDIES = {
    "engine": "look at the engine's log; less memory for its cache, or fewer max_episodes",
    "environment": "`agentrl check ENV` runs the environment's contract",
    "tool": "a tool raises something other than ToolError: `agentrl check ENV`, `agentrl play ENV` show it",
    "sandbox": "`agentrl doctor` tries the sandbox; memory and processes of the machine may be short",
    "reward": "the reward function raises, or gives no finite number: call it on the episode's answer",
    "timeout": "raise rollout.turn_seconds and rollout.episode_seconds, or find out what hangs",
    "cancelled": "something inside the environment cancels its own work",
}


def failures(evidence: Evidence) -> Iterator[Finding]:
    """A failed attempt is no evidence: it is left out, and what is left may be few or a choice."""
    failed = [a for a in evidence.attempts if a.failure is not None]
    shares = evidence.values("failure_share")
    spent = evidence.ending is not None and evidence.ending.error == "FailureBudgetSpent"
    severity = 1.0 if spent else max(mean(shares), len(failed) / max(len(evidence.attempts), 1))
    if severity < MUCH:
        return
    counts = Counter(a.failure for a in failed) or Counter(
        {
            kind: n
            for s in evidence.steps
            for kind, n in {**s.get("failures", {}), **s.get("retried", {})}.items()
        }
    )
    kind = str(counts.most_common(1)[0][0]) if counts else "environment"
    tool = blamed_tool(evidence)
    yield Finding(
        name="failing-tool" if tool else "failures",
        sentence=f"The tool {tool!r} fails, for no fault of the actions (class {kind!r}): attempts end there."
        if tool
        else f"Attempts fail for reasons outside their actions, most of them in class {kind!r}.",
        evidence=(
            f"{len(failed)} of {len(evidence.attempts)} attempts failed: "
            + ", ".join(f"{n} {k}" for k, n in counts.most_common()),
            *examples(evidence, kind),
            *((evidence.ending.message,) if spent and evidence.ending is not None else ()),
        ),
        remedy=REMEDIES.get(kind, "look at the message"),
        severity=severity,
        proof=spent,
        since=next((a.step for a in failed), 1),
        episode=next((a.id for a in failed if a.failure == kind), ""),
    )


def blamed_tool(evidence: Evidence) -> str:
    """Name the tool that nearly all failures speak of; '' where there is none."""
    lost = [e.failure.message for p in evidence.plays for e in p.episodes if e.failure]
    found = Counter(match[1] for message in lost if (match := TOOL.search(message)))
    if not found:
        return ""
    (name, count), *_ = found.most_common(1)
    return name if count >= (1 - MUCH) * len(lost) else ""


def examples(evidence: Evidence, kind: str) -> tuple[str, ...]:
    """Give the commonest message of a class."""
    found = [e.failure for p in evidence.plays for e in p.episodes if e.failure and e.failure.kind == kind]
    if not found:
        return ()
    (message, count), *_ = Counter(f.message[:200] for f in found).most_common(1)
    return (f"{count} of {len(found)} such messages: {message}",)


def escaping(evidence: Evidence) -> Iterator[Finding]:
    """Actions must not bring failures about: a policy would fail what would have cost it reward."""
    pairs = [
        (low, high)
        for s in evidence.steps
        if (low := s.get("failure_share_low")) is not None
        and (high := s.get("failure_share_high")) is not None
    ]
    low, high = mean(p[0] for p in pairs), mean(p[1] for p in pairs)
    if not pairs or low - high < ESCAPE:
        return
    yield Finding(
        name="failures-hide-losses",
        sentence="Failures are common where little is earned and rare where much is: actions seem to bring "
        "them about, and what fails is never counted.",
        evidence=(f"{low:.0%} of the attempts fail in groups below the median reward, {high:.0%} above",),
        remedy="let what actions can cause (time, memory, malformed input) end in an observation or a "
        "reward, not in an exception",
        severity=low,
    )


def stopped(evidence: Evidence) -> Iterator[Finding]:
    """A run that gave up says why."""
    ending = evidence.ending
    if ending is None or ending.error in KNOWN:
        return
    yield Finding(
        name="stopped",
        sentence=f"The run gave up in step {ending.step}: {ending.error}.",
        evidence=(ending.message,),
        remedy="mend what the message names; the same command goes on from the last finished step",
        severity=1.0,
        proof=True,
        since=ending.step,
    )
