"""Try the isolation levels by running a call in each."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Literal, TypeVar

from agentrl.errors import SandboxError, SandboxUnavailable
from agentrl.tools.sandbox.guarantees import guarantees
from agentrl.tools.sandbox.levels import REMEDY
from agentrl.tools.sandbox.pool import SandboxPool
from agentrl.tools.sandbox.types import LevelName, LevelReport, Limits, Plan

T = TypeVar("T")
LEVELS: tuple[LevelName, ...] = ("namespaces", "landlock")
"""Strongest first."""


def open_pool(
    *,
    level: Literal["auto", "namespaces", "landlock"] = "auto",
    unsafe_local: bool = False,
    limits: Limits | None = None,
    size: int = 8,
    prelude: str = "",
    preload: tuple[str, ...] = (),
) -> SandboxPool:
    """A pool at the strongest level that works when tried, or at the one asked for.

    Args:
        unsafe_local: No isolation at all, whatever else works; `pool.isolation` is then 'none'.
        size: Sandboxes kept ready.
        prelude: Code that every sandbox runs before it is handed out; what it shows is thrown away.
        preload: Modules that are imported once, before the sandboxes are forked.

    Raises:
        SandboxUnavailable: No level works; the message names what to install.
    """
    chosen: LevelName = "none"
    if not unsafe_local:
        chosen = _first_that_works(LEVELS if level == "auto" else (level,))
    plan = Plan(level=chosen, limits=limits or Limits(), prelude=prelude, preload=preload)
    return SandboxPool(plan, size=size)


def probe_levels() -> list[LevelReport]:
    """What came of trying each level here, the strongest first."""
    return [probe_level(level) for level in LEVELS]


def probe_level(level: LevelName) -> LevelReport:
    """What came of trying one level."""
    try:
        detail = _blocking(_try(level))
    except (SandboxError, SandboxUnavailable, OSError, TimeoutError) as error:
        detail = str(error) or repr(error)
    remedy = f"; remedy: {REMEDY[level]}" if level in REMEDY else ""
    return LevelReport(
        name=level, works=not detail, detail=detail and detail + remedy, guarantees=guarantees(level)
    )


def _first_that_works(levels: tuple[LevelName, ...]) -> LevelName:
    details: list[str] = []
    for name in levels:
        report = probe_level(name)
        if report.works:
            return name
        details.append(f"{name}: {report.detail}")
    raise SandboxUnavailable(
        "no sandbox level works here, so no foreign code is run. " + ". ".join(details) + ". "
        "To run it without any isolation, with all rights of this user, pass --unsafe-local"
    )


async def _try(level: LevelName) -> str:
    """'' where a call worked, else what it said."""
    async with SandboxPool(Plan(level=level, limits=Limits()), size=1) as pool:
        box = await pool.acquire()
        done = await box.run("print(2 + 2)", timeout=10)
        await box.close()
    return "" if done.ok and done.output == "4\n" else f"a call answered {done.output!r} {done.error!r}"


def _blocking(work: Coroutine[None, None, T]) -> T:
    """The result of asynchronous work, also where a loop is running already."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:  # handed to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, name="agentrl-sandbox-probe")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
