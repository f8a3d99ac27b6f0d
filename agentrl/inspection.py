"""Shows episodes to a person, as a conversation or token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from agentrl.episode import Context, Episode
from agentrl.message import Action

Decode = Callable[[Sequence[int]], str]
HEADER = (
    f"{'turn':>4} {'kind':<11} {'id':>6} {'loss':>4} {'log-prob':>9} {'entropy':>8} {'advantage':>9}  token"
)


def token_table(context: Context, decode: Decode, advantage: Sequence[float] | float) -> Iterator[str]:
    """Give a line per token: what it is, whether it is trained on, and with which advantage.

    Args:
        context: The tokens.
        decode: Shows one id as text.
        advantage: One number for all trained tokens, or one for each token of the context.
    """
    yield HEADER
    position = 0
    columns = (context.column("logp"), context.column("entropy"), context.trained)
    for segment in context.segments:
        for token in segment.ids.tolist():
            logp, entropy, trained = (c[position] for c in columns)
            value = advantage if isinstance(advantage, (int, float)) else advantage[position]
            cells = f"{_number(logp):>9} {_number(entropy):>8} {_number(value if trained else math.nan):>9}"
            shown = repr(decode([token]))
            head = f"{segment.turn:>4} {segment.kind:<11} {token:>6} {'yes' if trained else '':>4}"
            yield f"{head} {cells}  {shown}"
            position += 1


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def describe_action(action: Action) -> str:
    """Write an action as a person would.

    >>> from agentrl.message import call
    >>> describe_action(call("price", item="pear"))
    "price('pear')"
    """
    calls = [f"{c.name}({', '.join(map(repr, c.arguments.values()))})" for c in action.calls]
    parts = [action.text] if action.text else []
    return "  ".join([*parts, *calls, *(f"[malformed: {m}]" for m in action.malformed)]) or "(nothing)"


def conversation(episode: Episode) -> Iterator[tuple[str, str]]:
    """Give (who, words) in order: the task, then each action and what came back."""
    yield "task", episode.first.text
    for turn in episode.turns:
        yield "agent", describe_action(turn.action)
        if turn.observation.text:
            yield "environment", turn.observation.text
