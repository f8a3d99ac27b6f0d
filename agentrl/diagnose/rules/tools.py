"""A tool that never works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from agentrl.diagnose.evidence import Evidence
from agentrl.diagnose.finding import Finding
from agentrl.message import ToolResult

LEAST_CALLS = 12
NEARLY_ALL = 0.9
"""Share of a tool's calls that fail; a policy's own mistakes are rarer, and other ones."""
TROUBLE = re.compile(
    r"\b(error|exception|traceback|fail(ed|s|ure)?|unavailable|not available|timed? ?out|refused|denied|"
    r"out of (order|service)|broken|internal|cannot|could not|down)\b",
    re.IGNORECASE,
)
"""What tools say that report their trouble as an ordinary result."""
ALIKE = 4
"""Different questions to one text of trouble: a tool at work, as one that runs tests, says more than that, or
is of use.
"""


@dataclass(slots=True, kw_only=True)
class Use:
    """How a tool was used."""

    calls: int = 0
    failed: int = 0
    troubled: int = 0
    right: int = 0
    """Calls in attempts that succeeded."""
    arguments: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    episodes: set[str] = field(default_factory=set)
    """Those that called it and came to nothing."""
    since: int = 0
    example: str = ""

    def add(self, step: int, episode: str, arguments: str, text: str, *, ok: bool, right: bool) -> None:
        """Count a call that reached the tool."""
        self.calls += 1
        self.failed += not ok
        self.troubled += bool(TROUBLE.search(text))
        self.right += right
        self.arguments.add(arguments)
        self.texts.add(text)
        if not right:
            self.episodes.add(episode)
            self.since, self.example = self.since or step, self.example or episode


def failing_tool(evidence: Evidence) -> Iterator[Finding]:
    """Where a tool fails whatever it is asked, nothing that needs it can succeed."""
    whole = evidence.episodes
    for name, use in sorted(uses(evidence).items()):
        part = len(use.episodes) / max(len(whole), 1)
        severity = max(part, 0.5) if evidence.hopeless else part
        what = trouble(use)
        if use.calls >= LEAST_CALLS and what:
            (said, *_) = sorted(use.texts)
            yield Finding(
                name="failing-tool",
                sentence=f"The tool {name!r} always fails: {what}.",
                evidence=(
                    f"{use.calls} calls with {len(use.arguments)} different arguments were looked at",
                    f"it says: {said[:160]!r}"
                    + (f" and {len(use.texts) - 1} other texts" if len(use.texts) > 1 else ""),
                    f"{part:.0%} of the attempts called it and came to nothing",
                ),
                remedy="call it with the episode's arguments: `agentrl play ENV` shows what it answers",
                severity=severity,
                since=use.since,
                episode=use.example,
            )


def trouble(use: Use) -> str:
    """Say what is wrong with a tool; '' where nothing is."""
    if use.failed >= NEARLY_ALL * use.calls and (
        len(use.texts) < len(use.arguments) or use.failed == use.calls
    ):
        return f"{use.failed} of {use.calls} calls end with an error"
    idle = len(use.arguments) >= ALIKE * len(use.texts) or use.right <= (1 - NEARLY_ALL) * use.calls
    if use.troubled >= NEARLY_ALL * use.calls and len(use.arguments) > 1 and idle:
        return f"{use.troubled} of {use.calls} results speak of an error"
    if use.texts == {""} and len(use.arguments) > 1:
        return f"{use.calls} calls gave an empty answer"
    return ""


def uses(evidence: Evidence) -> dict[str, Use]:
    """Gather the calls that reached their tool, by its name."""
    found: dict[str, Use] = {}
    for step, episode in evidence.episodes:
        for turn in episode.turns:
            said = {p.call_id: p.text for p in turn.observation.parts if isinstance(p, ToolResult)}
            for record in turn.calls:
                if record.valid:
                    use = found.setdefault(record.call.name, Use())
                    arguments, text = repr(dict(record.call.arguments)), said.get(record.call.id, "")
                    use.add(step, episode.id, arguments, text, ok=record.ok, right=bool(episode.correct))
    return found
