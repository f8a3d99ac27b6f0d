"""Asks all rules and puts the most probable cause first."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points

from agentrl.diagnose.evidence import Evidence
from agentrl.diagnose.finding import Finding, Rule

GROUP = "agentrl.diagnoses"
LEAST = 0.15
"""Weight below which a finding is not worth an alarm, unless it is proof."""
ENOUGH = 0.2
"""Share of a consequence's weight that its cause must have, to be its cause."""


def rules() -> list[Rule]:
    """Give the installed rules; those of other packages too."""
    return [entry.load() for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name)]


def diagnose(evidence: Evidence, asked: Sequence[Rule] | None = None) -> list[Finding]:
    """Give what is wrong, the most probable cause first.

    A finding comes behind every finding that it may follow from and that began no later; among the others the
    larger weight is first.
    """
    said = [f for rule in (rules() if asked is None else asked) for f in rule(evidence)]
    found = once([f for f in said if f.proof or f.weight >= LEAST])
    return sorted(found, key=lambda f: (bool(causes(f, found)), -f.weight, f.since, f.name))


def once(found: Sequence[Finding]) -> list[Finding]:
    """Keep the weightiest of the findings of one name."""
    best: dict[str, Finding] = {}
    for finding in found:
        if finding.name not in best or finding.weight > best[finding.name].weight:
            best[finding.name] = finding
    return list(best.values())


def causes(finding: Finding, found: Sequence[Finding]) -> list[str]:
    """Name what was found and may have brought this one about."""
    return [
        f.name
        for f in found
        if f.name in finding.follows_from
        and f.name != finding.name
        and f.since <= finding.since
        and f.weight >= ENOUGH * finding.weight
    ]
