"""Findings and figures as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agentrl.diagnose.figures import Figures
from agentrl.diagnose.finding import Finding
from agentrl.diagnose.ranking import causes

SHARES = "share"
"""What the names of shares end with."""


def lines(run: str, found: Sequence[Finding], numbers: Figures) -> Iterator[str]:
    """Give the whole report."""
    if not found:
        yield f"{run}: nothing wrong found in {numbers['steps']:.0f} steps."
    for place, finding in enumerate(found, 1):
        yield f"{place}. {finding.sentence}"
        yield from (f"     {line}" for line in finding.evidence)
        if roots := causes(finding, found):
            yield f"     may follow from {', '.join(roots)}"
        yield f"   → {finding.remedy}"
        if finding.episode:
            yield f"   → agentrl replay {run} {finding.episode}"
        yield ""
    yield from table(numbers)


def table(numbers: Figures) -> Iterator[str]:
    """Give the figures, several a line."""
    cells = [f"{name.replace('_', ' ')} {written(name, value)}" for name, value in numbers.items()]
    for first in range(0, len(cells), 4):
        yield "  " + ", ".join(cells[first : first + 4])


def written(name: str, value: float | None) -> str:
    """Write one figure.

    >>> written("masked_share", 0.25), written("moved", 0.0123), written("steps", 4096.0)
    ('25%', '0.0123', '4096')
    """
    if value is None:
        return "–"
    if name.endswith(SHARES):
        return f"{value:.0%}"
    return f"{value:.0f}" if value.is_integer() else f"{value:.3g}"
