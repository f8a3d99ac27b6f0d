"""Where a server that speaks OpenAI's HTTP interface is, how patiently it is asked, and the key to it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from agentrl.errors import ConfigError

OPENAI = "https://api.openai.com/v1"
KEY_ENV = "OPENAI_API_KEY"
PLACE = re.compile(r"(?P<model>.+?)(?:@(?P<url>(?i:https?)://.*))?", re.DOTALL)
BARE_HOST = re.compile(
    r"@(//|\[|localhost([:/]|$)|\d+\.\d+\.\d+\.\d+|[\w.-]+:\d{2,5}(/|$)"
    r"|[\w-]+(\.[\w-]+)*\.[a-zA-Z]{2,}(/|$)|\S+/v\d+/?$)"
)
"""What stands behind a model's @ and is meant as an address, not as a part of its name."""
HIDDEN = "[key]"
SHORTEST_HIDDEN = 8
"""A shorter key (servers at home are happy with "EMPTY") is a common word, not a secret in an answer."""
Data = TypeVar("Data")


class Secret:
    """A key: sent, never shown.

    >>> Secret("sk-0123456789"), Secret("sk-0123456789").hide_in({"said": ["wrong key sk-0123456789"]})
    (Secret('[key]'), {'said': ['wrong key [key]']})
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"Secret({HIDDEN!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a key is never stored")

    def headers(self) -> dict[str, str]:
        """Give what a request must carry; nothing where there is no key."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def hide_in(self, data: Data) -> Data:
        """Give text, or JSON data, without the key, for servers that repeat what they were sent."""
        if len(self._value) < SHORTEST_HIDDEN:
            return data
        hidden: Any = self._hide(data)
        return hidden  # type: ignore[no-any-return]

    def _hide(self, data: Any) -> Any:
        if isinstance(data, str):
            return data.replace(self._value, HIDDEN)
        if isinstance(data, list):
            return [self._hide(value) for value in data]
        if isinstance(data, dict):
            return {self._hide(name): self._hide(value) for name, value in data.items()}
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One model behind one URL. It holds the name of the variable with the key, never the key.

    >>> Endpoint(model="qwen", url="http://localhost:8000/v1").place
    'qwen@http://localhost:8000/v1'
    """

    model: str
    url: str = OPENAI
    api_key_env: str = field(default=KEY_ENV, repr=False)
    """Environment variable that holds the key; '' for none, as servers at home need none."""
    attempts: int = 6
    """How often one request is sent at most: again after 408, 409, 425, 429, 5xx, a lost or cut connection,
    an answer that cannot be read, and a time-out.
    """
    timeout_seconds: float = 300.0
    """Of one attempt, from connecting to the last byte."""
    connect_seconds: float = 10.0
    backoff_seconds: float = 0.5
    """Wait before the second attempt; it doubles each time, with up to half of it left out at random."""
    max_wait_seconds: float = 60.0
    """Longest wait between two attempts, also where the server's Retry-After asks for more."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigError(f"attempts={self.attempts}: need 1 or more")
        for name in ("timeout_seconds", "connect_seconds", "backoff_seconds", "max_wait_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}: need more than 0")
        _check_url(self.url)
        if not re.fullmatch(r"(?a:[A-Za-z_]\w*)?", self.api_key_env):
            raise ConfigError(
                "api_key_env must be the name of the environment variable with the key, as OPENAI_API_KEY "
                "(what was given is not repeated: it may be the key itself)"
            )

    @property
    def place(self) -> str:
        """Model and URL, as a person writes them."""
        return f"{self.model}@{self.url}"

    def key(self) -> Secret:
        """Read the key from the environment.

        Raises:
            ConfigError: It cannot stand in a header.
        """
        value = os.environ.get(self.api_key_env, "").strip()
        if not value.isascii() or not value.isprintable():
            raise ConfigError(f"{self.api_key_env} holds characters that no key has: set it again")
        return Secret(value)


def read_place(text: str) -> tuple[str, str]:
    """Split `MODEL@URL`; without a URL it is OpenAI's own.

    >>> read_place("org/model@2:7b@http://localhost:8000/v1/")
    ('org/model@2:7b', 'http://localhost:8000/v1')
    """
    found = PLACE.fullmatch(text)
    if found is None:
        raise ConfigError("openai: names no model: write openai:MODEL@http://HOST:PORT/v1")
    if found["url"] is None and BARE_HOST.search(text):  # or OpenAI would be sent what is another server's
        raise ConfigError("openai: names a host without http:// or https://: write MODEL@http://HOST:PORT/v1")
    return found["model"], (found["url"] or OPENAI).rstrip("/")


def _check_url(url: str) -> None:
    """Refuse what is no plain URL; one that may hold a secret is not repeated."""
    try:
        parts = urlsplit(url)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        shown = "the URL of the endpoint" if set("@?#") & set(url) else f"url={url!r}"
        raise ConfigError(f"{shown} is no URL: write it as http://HOST:PORT/v1") from None
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            "the URL of the endpoint holds a name, a password or a query, and would be written into results: "
            "leave them out and put the key into the environment (OPENAI_API_KEY)"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_one:
        raise ConfigError(f"url={url!r} is no URL: write it as http://HOST:PORT/v1")
