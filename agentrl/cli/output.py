"""Where a command's words go: people read stdout, or with `--json` programs do."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.progress import Progress, progress_for
from agentrl.terminal import harmless, harmless_json


class Output:
    """Prints words for a person, or with `json` one object for a program."""

    def __init__(self, *, json: bool) -> None:
        self.json = json

    def say(self, text: str = "") -> None:
        """Print a line for a person; with `--json` it is left out."""
        if not self.json:
            print(harmless(text), flush=True)

    def table(self, rows: Sequence[Sequence[str]], *, indent: int = 2) -> None:
        """Print rows of cells under each other."""
        for line in columns(rows):
            self.say(" " * indent + line)

    def result(self, data: Mapping[str, Any]) -> None:
        """End with the JSON object, where that was asked for."""
        if self.json:
            text = json.dumps(plain(data), allow_nan=False, ensure_ascii=False)
            print(harmless_json(text), flush=True)

    def progress(self) -> Progress:
        """Give what shows progress; with `--json` it goes to stderr."""
        return progress_for(sys.stderr if self.json else sys.stdout)


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align cells; the last one of a row is never padded.

    >>> columns([["a", "bb"], ["ccc", "d"]])
    ['a    bb', 'ccc  d']
    """
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows), default=0))]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=False)).rstrip() for row in rows]


def plain(value: Any) -> Any:
    """Turn a value into what JSON can hold; numbers that are none become null.

    >>> plain({"a": float("nan"), 1: (2, None)})
    {'a': None, '1': [2, None]}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    item = getattr(value, "item", None)  # a number of numpy or torch
    return plain(item()) if callable(item) else str(value)
