"""What the sandbox tests share: pools that stay open for a file of tests."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import pytest

from agentrl.tools.sandbox import Execution, LevelName, Sandbox, SandboxPool
from agentrl.tools.sandbox.probe import probe_level
from tests.tools.attacks import Level, make_pool

T = TypeVar("T")
every_level = pytest.mark.parametrize("level", ["namespaces", "landlock", "none"])
isolating_level = pytest.mark.parametrize("level", ["namespaces", "landlock"])


class Pools:
    """One pool per level, opened when first asked for, all on one event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._open: dict[Level, SandboxPool] = {}

    def pool(self, level: Level) -> SandboxPool:
        """The level's pool; the test fails, with the remedy, where the level does not work."""
        if level not in self._open:
            report = probe_level(cast(LevelName, level)) if level != "none" else None
            if report and not report.works:
                pytest.fail(report.detail)
            self._open[level] = self._runner.run(make_pool(level).__aenter__())
        return self._open[level]

    def do(self, level: Level, work: Callable[[Sandbox], Awaitable[T]]) -> T:
        """What asynchronous work with a fresh sandbox returns."""
        pool = self.pool(level)

        async def main() -> T:
            box = await pool.acquire()
            try:
                return await work(box)
            finally:
                await box.close()

        return self._runner.run(main())

    def run(self, level: Level, *codes: str, timeout: float | None = None) -> list[Execution]:
        """What calls in one fresh sandbox came to."""

        async def main(box: Sandbox) -> list[Execution]:
            return [await box.run(code, timeout=timeout) for code in codes]

        return self.do(level, main)

    def close(self) -> None:
        """Close what was opened."""
        for pool in self._open.values():
            self._runner.run(pool.close())


@contextmanager
def open_pools() -> Iterator[Pools]:
    """Pools for a fixture of module scope."""
    with asyncio.Runner() as runner:
        pools = Pools(runner)
        try:
            yield pools
        finally:
            pools.close()
