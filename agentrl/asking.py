"""How a model is asked in a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentrl.engine.protocol import Sampling
from agentrl.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a request asks for beside the conversation; what is None is left to the server."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request, such as {"reasoning_effort": "low"}; they win over ours."""

    def __post_init__(self) -> None:
        for name, least in (("temperature", 0), ("top_p", 0), ("max_tokens", 1)):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, (int, float)) and value >= least):
                raise ConfigError(f"policy.{name}={value!r}: need a number of {least} or more")
        if self.max_tokens is not None and not isinstance(self.max_tokens, int):
            raise ConfigError(f"policy.max_tokens={self.max_tokens!r}: need a whole number")
        if not isinstance(self.extra, Mapping):
            raise ConfigError(
                f"policy.extra={self.extra!r}: need fields of a request, such as {{'top_k': 20}}"
            )

    @property
    def sampling(self) -> Sampling:
        """The same for an engine; what is None is as engines have it."""
        return Sampling(**self._given)

    def fields(self, seed: int) -> dict[str, Any]:
        """Give the fields of a request."""
        return self._given | {"seed": seed % 2**31} | dict(self.extra)

    @property
    def _given(self) -> dict[str, Any]:
        own = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}
        return {k: v for k, v in own.items() if v is not None}
