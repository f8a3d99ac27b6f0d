"""What goes into a sandbox and what comes out."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from agentrl.errors import ConfigError

Scalar: TypeAlias = None | bool | int | float | str | bytes
Data: TypeAlias = (
    Scalar | list["Data"] | tuple["Data", ...] | dict["Data", "Data"] | set["Data"] | frozenset["Data"]
)
"""What `emit` may send out of a sandbox: exact built-in types, rebuilt on this side."""

LimitName = Literal["wall", "cpu", "memory", "output", "disk", "processes"]
LevelName = Literal["namespaces", "landlock", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the code in one sandbox may use; a limit that is hit is an observation."""

    wall_seconds: float = 5.0
    """Per call; the whole tree is killed after it."""
    cpu_seconds: float = 30.0
    """Of all processes together, over the sandbox's life."""
    memory_bytes: int = 512 << 20
    """Of all processes together, on top of the bare interpreter."""
    output_bytes: int = 64 << 10
    """Kept per call; the rest is thrown away and said so."""
    emit_bytes: int = 256 << 10
    """Encoded size of all values that one call may emit; each counts 64 bytes besides."""
    disk_bytes: int = 64 << 20
    files: int = 1024
    """Files and folders in the private folder."""
    processes: int = 32
    """Processes and threads together."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"Limits.{name}={getattr(self, name)}: need more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What all sandboxes of a pool are like."""

    level: LevelName
    limits: Limits
    prelude: str = ""
    """Code that each runs before it is handed out; what it shows and emits is thrown away."""
    preload: tuple[str, ...] = ()
    """Modules that are imported once, before the sandboxes are forked."""

    def __post_init__(self) -> None:
        try:
            compile(self.prelude, "<prelude>", "exec", dont_inherit=True)
        except SyntaxError as error:
            raise ConfigError(f"the sandbox's prelude is no Python: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What one call did, as its code chose to show it: nothing here deserves more trust than that code."""

    output: str
    """Standard output and error as text, cut at the limit with a notice."""
    error: str
    """'' or the traceback from the caller's own frames on, or which limit was hit."""
    seconds: float
    values: tuple[Data, ...] = ()
    """What the code passed to the built-in `emit`, in order, also when it failed later."""
    limit: LimitName | None = None
    alive: bool = True
    """False: the interpreter is gone with all its names; a later call says so."""

    @property
    def ok(self) -> bool:
        return not self.error


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelReport:
    """What came of trying one isolation level on this machine."""

    name: LevelName
    works: bool
    """A real call ran in it."""
    detail: str
    """Why it does not work and what to install, or '' ."""
    guarantees: tuple[str, ...]
    """Which limits and walls hold, and by what."""


class Sandbox(Protocol):
    """A Python interpreter behind walls, used by one episode and then thrown away."""

    @property
    def isolation(self) -> LevelName: ...

    async def run(self, code: str, *, timeout: float | None = None) -> Execution:
        """Run code in an interpreter that keeps its names between calls.

        A last bare expression is not echoed; calls on one sandbox wait for each other.

        Args:
            code: Python source. It may call `emit(value)` to send data out.
            timeout: Seconds for this call in place of `Limits.wall_seconds`.

        Raises:
            SandboxError: The sandbox was lost for a reason outside the code.
        """
        ...

    async def close(self) -> None:
        """Kill every process and remove every file; may be called twice."""
        ...
