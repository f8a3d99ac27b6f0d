"""Words behind placeholders, for a library that would read control tokens in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.dialect.writing import dump_json
from agentrl.errors import ConfigError
from agentrl.plaintext import PlainText

PLACEHOLDER = re.compile(r'("?)zqx(\d+)xqz("?)')


class Words:
    """Hides words behind placeholders and puts them back as plain text."""

    def __init__(self, plain: PlainText) -> None:
        self._plain = plain
        self._hidden: list[str] = []
        self._optional: set[int] = set()

    def hide(self, text: str, *, optional: bool = False) -> str:
        """Give what stands for `text`; the template may leave out what is `optional`."""
        if optional:
            self._optional.add(len(self._hidden))
        self._hidden.append(text)
        return f"zqx{len(self._hidden) - 1}xqz"

    def hide_strings(self, value: Any) -> Any:
        """Hide every string in JSON data; names of fields stay."""
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, Mapping):
            return {k: self.hide_strings(v) for k, v in value.items()}
        return [self.hide_strings(v) for v in value] if isinstance(value, list | tuple) else value

    def put_back(self, ids: Sequence[int]) -> list[int]:
        """Write each stretch between control tokens again that holds a placeholder.

        Raises:
            ConfigError: The template left words out or wrote them twice.
        """
        out: list[int] = []
        run: list[int] = []
        seen: list[int] = []
        for i in [*map(int, ids), None]:
            if i is not None and i not in self._plain.added:
                run.append(i)
                continue
            out += self._again(run, seen)
            out += [] if i is None else [i]
            run = []
        if sorted({*seen, *self._optional}) != list(range(len(self._hidden))) or len({*seen}) != len(seen):
            raise ConfigError("the template leaves out, repeats or changes the words of a message")
        return out

    def _again(self, run: list[int], seen: list[int]) -> list[int]:
        def word(match: re.Match[str]) -> str:
            seen.append(int(match[2]))
            text = self._hidden[int(match[2])]
            quoted = match[1] and match[3]
            return dump_json(text) if quoted else match[1] + text + match[3]

        text = self._plain.decode(run)
        replaced = PLACEHOLDER.sub(word, text)
        return run if replaced == text else self._plain.encode(replaced)
