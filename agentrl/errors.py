"""Errors, named by the boundary that they crossed.

Three kinds are kept apart everywhere:

* `ConfigError`: the caller asked for something impossible; the command line prints one line and exits with 2.
* `ToolError`: the *model* asked for something impossible; it is told so, in words, and the episode goes on.
* `InfrastructureError`: what would have hit any action (a dead engine, a lost sandbox, a full disk).
  The episode becomes a `Failure`, which is counted and never trained on.

Anything else is a bug of ours or of the environment's author.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

FailureKind = Literal["engine", "environment", "tool", "sandbox", "reward", "timeout", "cancelled"]


class ConfigError(ValueError):
    """A wrong value from the caller; the message names the value and the remedy."""


class ToolError(Exception):
    """A wrong request from the model; its message is the observation."""


class InfrastructureError(Exception):
    """Something that would have hit any action; `kind` says at which boundary."""

    kind: ClassVar[FailureKind] = "environment"


class EngineError(InfrastructureError):
    """The engine died or returned what it must not return."""

    kind = "engine"


class EnvironmentFault(InfrastructureError):
    """The environment broke its contract: wrong type, exception, step after the end."""

    kind = "environment"


class ToolFault(InfrastructureError):
    """A tool raised something other than `ToolError`."""

    kind = "tool"


class SandboxError(InfrastructureError):
    """A sandbox was lost for a reason outside the code that ran in it."""

    kind = "sandbox"


class RewardError(InfrastructureError):
    """A reward that is no finite number, or a judge that failed."""

    kind = "reward"


class DeadlineError(InfrastructureError):
    """Infrastructure did not answer in time (a limit hit by the model's own code is an observation)."""

    kind = "timeout"


class WorkCancelled(InfrastructureError):
    """Something inside cancelled the work, although nobody who waits for it had asked for that."""

    kind = "cancelled"


class RunStopped(InfrastructureError):
    """The run ends itself: its parts fail too often or disagree; the command line exits with 3.

    `facts` are the numbers behind the message, by the names of the metrics; JSON data.
    """

    def __init__(self, message: str, *, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.facts = dict(facts or {})


class SandboxUnavailable(ConfigError):
    """No isolation level works on this machine; the message names what to install."""


def root_cause(error: BaseException) -> BaseException:
    """Give what lies at the bottom of a chain of causes; of a group of errors, what lies under its first.

    A time-out is the bottom: asyncio names the cancellation as its cause that it ended the work with.

    >>> try:
    ...     raise ToolFault("broken") from OSError(28, "full")
    ... except ToolFault as error:
    ...     root_cause(error)
    OSError(28, 'full')
    """
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None and not isinstance(error, TimeoutError):
            error = error.__cause__
        else:
            return error


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say what does not exist and what was probably meant.

    >>> unknown("setting", "clip_hihg", ["clip_low", "clip_high"])
    "no setting 'clip_hihg'; did you mean 'clip_high'?"
    >>> unknown("tool", "x", ["python"])
    "no tool 'x'; known: python"
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"no {kind} {name!r}; {hint}"
