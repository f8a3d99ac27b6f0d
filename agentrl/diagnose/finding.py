"""What a rule has to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from agentrl.diagnose.evidence import Evidence

SIGN = 0.8
"""Weight of what is merely likely, against what cannot be in a sound run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that keeps a run from learning."""

    name: str
    """Short, such as 'wrong-mask'."""
    sentence: str
    """What is wrong, for whoever has never seen this before."""
    evidence: tuple[str, ...]
    """Numbers that say so."""
    remedy: str
    severity: float
    """Share, in 0..1, of what could have been learnt from (attempts, groups or updates) that it spoils."""
    proof: bool = False
    """Whether no sound run can show this, however it was set up and whatever it is trained on."""
    since: int = 1
    """First step that shows it."""
    episode: str = ""
    """Id of an episode that shows it; '' where none does."""
    follows_from: frozenset[str] = frozenset()
    """Names of findings that bring this one about, where they are there too."""

    @property
    def weight(self) -> float:
        """What findings are ranked by: the severity, less for what is merely likely."""
        return self.severity * (1.0 if self.proof else SIGN)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON data."""
        return asdict(self) | {"follows_from": sorted(self.follows_from), "weight": self.weight}


Rule = Callable[[Evidence], Iterable[Finding]]
"""Gives what it finds; nothing where all is well or where what it reads was not recorded."""
