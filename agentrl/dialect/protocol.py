"""The dialect contract: the only place where conversation becomes token ids and ids become actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from agentrl.episode import Ids
from agentrl.errors import ConfigError
from agentrl.message import Action, Part
from agentrl.toolkit import ToolSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoded:
    """Token ids and the pictures whose placeholders stand in them."""

    ids: Ids
    media: tuple[str, ...] = ()


class RewritesEarlierTurns(ConfigError):
    """The template changes what already stands in the context: a new context must be opened."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exchange:
    """A turn of the agent as it was sampled, and what it was told then."""

    said: Ids
    heard: tuple[Part, ...]


class Dialect(Protocol):
    """Writes and reads one model family's conversation format over one tokenizer.

    Words from outside (`Part`s, system text) are encoded as ordinary text, whatever they look like, and
    spliced
    between the template's own control ids. Text is never tokenised twice: what the model sampled stays as
    sampled.
    """

    @property
    def name(self) -> str:
        """Such as 'tiny', 'tags', 'hermes', 'llama3'."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end the agent's turn; sampled, kept and trained on."""
        ...

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings that end the agent's turn in formats without a stop id."""
        ...

    def prompt(self, system: str, tools: Sequence[ToolSpec], task: Sequence[Part]) -> Encoded:
        """Write everything before the agent's first token."""
        ...

    def observation(self, parts: Sequence[Part], *, closed: bool) -> Encoded:
        """Write what follows an action up to the agent's next token.

        Args:
            parts: The observation.
            closed: Whether the action ended with its stop id; if not, the missing end is written first.
        """
        ...

    def parse(self, ids: Sequence[int] | Ids, tools: Sequence[ToolSpec]) -> Action:
        """Read a completion; never raises: what cannot be read stands in `Action.malformed`."""
        ...

    def render(self, action: Action, tools: Sequence[ToolSpec]) -> Ids:
        """Write the ids that an agent would have sampled for an action, its stop id included."""
        ...

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """Show ids to a person, control tokens included."""
        ...


@runtime_checkable
class Rewriting(Protocol):
    """What a dialect can do whose `observation` may raise `RewritesEarlierTurns`."""

    def rewrite(
        self, system: str, tools: Sequence[ToolSpec], task: Sequence[Part], turns: Sequence[Exchange]
    ) -> Encoded:
        """Write a whole conversation as the template shows it before the next turn: a prompt of its own.

        Earlier thinking may be gone from it; where the agent's own tokens count, they stand in the context
        that it sampled them in.
        """
        ...
