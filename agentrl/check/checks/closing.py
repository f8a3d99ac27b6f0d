"""`close` always returns, and nothing stays behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentrl.check import witness
from agentrl.check.actions import odd_answers
from agentrl.check.bench import Bench, Game, Table
from agentrl.check.checks.determinism import BROKEN
from agentrl.check.experts import expert_game
from agentrl.check.report import Faulty, Hung
from agentrl.check.wording import own_source, shown
from agentrl.errors import InfrastructureError
from agentrl.message import Action

DELAYS = (0.0, 0.0, 0.002, 0.01)
CLOSE_SECONDS = 1.5
"""A `close` that takes longer waits for something; killing a container takes less."""
RETRIES = 2
MEGABYTES = 64
PAUSES = (1, 2, 4, 8)
"""The lines of the author's code at which a step is held while `close` comes."""


async def closes(bench: Bench) -> str:
    """`close` works before, in the middle, after the end, and twice, and does not let others wait."""
    slowest = 0.0
    async with bench.open() as table:
        for turns in (None, 0, 1, 12):
            took = await _close_after(bench, table, turns)
            for _ in range(RETRIES):  # the machine may have been busy
                if took > CLOSE_SECONDS:
                    took = min(took, await _close_after(bench, table, turns))
            if took > CLOSE_SECONDS:
                raise Hung(
                    f"close() after {turns or 0} actions took {took:.1f} s, each time of {1 + RETRIES}: tell "
                    "what it waits for to stop (an event, a kill) instead of waiting for its end"
                )
            slowest = max(slowest, took)
    return f"close() works before, during and after an episode, and twice, within {1000 * slowest:.0f} ms"


async def _close_after(bench: Bench, table: Table, turns: int | None) -> float:
    """Close twice after some actions, the expert's where there are to be many; gives the seconds it took."""
    game = table.new()
    if turns == 12 and await expert_game(bench, table, bench.task(0), game=game) is None:
        await game.play(bench.task(0), turns=turns)
    elif turns is not None and turns < 12:
        await game.play(bench.task(0), turns=turns)
    took = 0.0
    for once_more in ("", " a second time"):
        started = time.monotonic()
        await _close_raw(bench, game, f"after {turns or 0} actions{once_more}")
        took = max(took, time.monotonic() - started)
    await game.close()
    return took


async def _close_raw(bench: Bench, game: Game, when: str) -> None:
    """Call the author's own `close`, which the adapter would call only once."""
    close = getattr(game.raw, "close", None)
    if close is None:
        return
    doing = f"close() {when}"
    try:
        await game.call(doing, close, min(bench.seconds, 5.0))
    except Hung:
        raise Hung(
            f"{doing} did not return within {min(bench.seconds, 5.0):g} s; give what it waits for a limit"
        ) from None
    except Exception as error:
        shown_error = f"{type(error).__name__}: {error}"
        raise Faulty(
            f"{doing} raised {shown_error}; make close() safe to call at any time and twice"
        ) from error


async def close_under_hang(bench: Bench) -> str:
    """`close` from outside ends a step that runs, whatever the step holds at that moment."""
    closed, before = 0, witness.held(bench.folder)
    async with bench.open() as table:
        actions = await _first_actions(bench, table)
        for action in actions:
            await _close_while(bench, table, action)
            closed += 1
        for line in PAUSES:
            if not await _close_while_held(bench, table, line):
                break
            closed += 1
        table.games.clear()
    await _refuse_rest(bench, before, f"close() during steps such as {shown(actions[0])}")
    return f"close() ended {closed} running steps"


async def _refuse_rest(bench: Bench, before: dict[str, str], where: str) -> None:
    rest = {
        k: v for k, v in (await witness.settled(bench.folder, before)).items() if not v.startswith("open ")
    }
    if rest:
        raise Faulty(f"{where} left {', '.join(rest.values())}: end it in close(), also while a step runs")


async def _first_actions(bench: Bench, table: Table) -> list[Action]:
    game = table.new()
    await game.start(bench.task(0))
    actor, found = game.actor(), dict[str, Action]()
    for _ in range(24):
        action = actor.next(game.texts)
        found.setdefault(action.calls[0].name if action.calls else "", action)
    await game.close()
    return list(found.values())[:6]


async def _close_while(bench: Bench, table: Table, action: Action) -> None:
    game = table.new()
    await game.start(bench.task(0))
    step = asyncio.ensure_future(game.env.act(action))
    await asyncio.wait([step], timeout=0.3)
    await _close_now(bench, game, f"close() while {shown(action)} runs")
    await _must_end(step, f"{shown(action)} still ran 2 s after close(): make close() unblock it")


async def _close_now(bench: Bench, game: Game, doing: str) -> None:
    try:
        await bench.within(doing, game.env.close(), min(bench.seconds, 5.0))
    except (Hung, InfrastructureError, TimeoutError) as error:
        raise Faulty(f"{doing} did not work ({error}): it must not wait for what the step holds") from error


async def _must_end(step: asyncio.Future[Any], fault: str) -> None:
    await asyncio.wait([step], timeout=2.0)
    if not step.done():
        raise Faulty(fault)
    if not step.cancelled():
        step.exception()


class Hold:
    """Holds a thread at the n-th line of an author's code, as if the step hung there."""

    def __init__(self, sources: set[str], line: int) -> None:
        self.sources, self.left, self.armed = sources, line, False
        self.reached, self.release = threading.Event(), threading.Event()

    def __call__(self, frame: Any, event: str, value: Any) -> Any:
        """Follow the functions of the author's own files."""
        return self.follow if frame.f_code.co_filename in self.sources else None

    def follow(self, frame: Any, event: str, value: Any) -> Any:
        """Count lines and hold at the wanted one."""
        if self.armed and event == "line" and frame.f_code.co_name not in {"close", "__exit__", "__del__"}:
            self.left -= 1
            if self.left == 0:
                self.reached.set()
                self.release.wait(20)
        return self.follow

    def let_go_after(self, close: Callable[[], Any]) -> None:
        """Close, then let the held thread run on."""
        close()
        self.release.set()


async def _close_while_held(bench: Bench, table: Table, line: int) -> bool:
    """Close while the step stands at a line; False if the step has fewer lines or runs on the loop."""
    game = table.new()
    hold = Hold({str(Path(f)) for f in own_source(game.raw)}, line)
    threading.settrace(hold)
    try:
        await game.start(bench.task(0))
    finally:
        threading.settrace(None)
    if game.env._thread is None:
        return False
    close, hold.armed = getattr(game.raw, "close", lambda: None), True
    game.raw.close = lambda: hold.let_go_after(close)
    step = asyncio.ensure_future(game.env.act(game.actor().next(game.texts)))
    while not step.done() and not hold.reached.is_set():
        await asyncio.sleep(0.001)
    hold.armed = hold.reached.is_set()
    try:
        await _close_now(bench, game, f"close() while a step hangs at line {line} of its code")
    finally:
        hold.release.set()
    await _must_end(step, "a step still ran 2 s after close(): make close() unblock it")
    return hold.reached.is_set()


async def cancellation(bench: Bench) -> str:
    """A cancelled step leaves an environment that closes."""
    before = witness.held(bench.folder)
    async with bench.open() as table:
        actions = await _first_actions(bench, table)
        for action, delay in itertools.product(actions, DELAYS):
            game = table.new()
            await game.start(bench.task(0))
            step = asyncio.ensure_future(game.env.act(action))
            await asyncio.sleep(delay)
            step.cancel()
            await _must_end(step, f"{shown(action)} ignored its cancellation: let CancelledError pass")
            await _close_now(bench, game, f"close() after {shown(action)} was cancelled")
        try:
            for position in (1, 2, 3):
                await table.play(position)
        except Hung as error:
            raise Hung(
                f"{error}: steps were cancelled before; release locks and slots in `finally`"
            ) from error
        table.games.clear()
    await _refuse_rest(bench, before, f"cancelling steps such as {shown(actions[0])}")
    return "cancelled steps end, and close() works after them"


async def leaks(bench: Bench) -> str:
    """Threads, processes, files and tasks are gone when all is closed."""
    before, created = witness.held(bench.folder), witness.watch_files(bench.folder)
    await _some_episodes(bench, 1)
    size = witness.megabytes()
    once = await witness.settled(bench.folder, before, 0.5)
    await _some_episodes(bench, 3)
    rest = await witness.settled(bench.folder, before | once)
    lasting = {k: v for k, v in once.items() if v.startswith("process") or _blocks_exit(k)}
    if rest or lasting:
        shown_rest = ", ".join(list((rest or lasting).values())[:4])
        raise Faulty(f"after close() {shown_rest} was still there: end and release it in close()")
    kept = sorted(p for p in created if os.path.exists(p))
    if kept:
        raise Faulty(f"it left the file {kept[0]!r}: write to a tempfile and remove it in close()")
    grown = witness.megabytes() - size
    if grown > MEGABYTES:
        raise Faulty(
            f"memory grew by {grown:.0f} MB in 9 episodes: keep nothing of an episode beyond its end"
        )
    return "nothing is left after close()"


def _blocks_exit(key: str) -> bool:
    return any(f"{t.name}-{t.ident}" == key and not t.daemon for t in threading.enumerate())


async def _some_episodes(bench: Bench, count: int) -> None:
    async with bench.open() as table:
        for position in range(count):
            await table.play(position)
            await table.play(position, turns=1)
            game = table.new()
            await game.play(bench.task(position), turns=2)
            await game.play(bench.task(position + 1), turns=2)
            await game.close()
            await expert_game(bench, table, bench.task(position))
            for action in (*BROKEN, *itertools.islice(odd_answers([""]), 8)):
                await (await table.new().repeat(bench.task(position), [action] * 2)).close()
        table.games.clear()


async def side_effects(bench: Bench) -> str:
    """Nothing is printed, and the state of the process stays as it was."""
    with tempfile.TemporaryFile() as caught:
        sys.stdout.flush()
        os.dup2(caught.fileno(), 1)
        before = witness.global_state()
        await _some_episodes(bench, 2)
        after = witness.global_state()
        sys.stdout.flush()
        caught.seek(0)
        printed = caught.read(200)
    if printed:
        raise Faulty(f"it prints to stdout ({printed[:80]!r}), where commands write their JSON: use logging")
    for name, value in before.items():
        if value != after[name]:
            raise Faulty(f"it changes {name}{_how(value, after[name])}: other environments share the process")
    return "no output, and the state of the process is unchanged"


def _how(old: Any, new: Any) -> str:
    if isinstance(old, dict):
        keys = sorted(str(k) for k in {*old, *new} if old.get(k) != new.get(k))
        return f" ({', '.join(keys[:3])})"
    if isinstance(old, int) and abs(old) > 10**6:
        return ""
    return f" (from {str(old)[:60]} to {str(new)[:60]})"
