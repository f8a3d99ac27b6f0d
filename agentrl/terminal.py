"""What a model, a tool or a server wrote, made harmless for a terminal."""

from __future__ import annotations

import re

STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that move the cursor, clear, rename or reorder, and halves of characters that cannot be printed.

Line feed and tab are not among them.
"""


def harmless(text: str) -> str:
    r"""Write steering characters as Python would.

    >>> harmless("fine\x1b[2J\tand\n\x9b1m")
    'fine\\x1b[2J\tand\n\\x9b1m'
    """
    return STEERING.sub(lambda found: repr(found[0])[1:-1], text)


def harmless_json(text: str) -> str:
    r"""Write steering characters inside of JSON as JSON does.

    >>> harmless_json('{"said": "a\x9bb"}')
    '{"said": "a\\u009bb"}'
    """
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
