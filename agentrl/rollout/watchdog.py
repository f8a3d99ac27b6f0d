"""Names the episode, turn and tool that everything waits for, and lets go of it when its time is over."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TICK_SECONDS = 0.1
FROZEN_SECONDS = 0.5
"""A tick that comes so late means that no Python code ran: something held the interpreter."""
QUEUED_SHARE = 0.9
"""Above this share of such a time, the machine had no processor for this thread, and nobody held anything."""
HELD_SHARE = 0.5
"""A call whose thread used the processor for this share of such a time is the one that held everything."""
STACKS_SECONDS = 120.0
"""After so long a freeze a thread that needs no interpreter writes to stderr where every thread stands."""
STDERR = 2
LINE_SECONDS = 1.0
"""At most one line in so much time, however many wait."""


@dataclass(slots=True, kw_only=True, eq=False)
class Wait:
    """Somebody waits for something."""

    place: Callable[[], str]
    """Gives such as "episode 0-2-t/1, turn 3, tool 'python'"."""
    began: float
    limit: float
    timer: asyncio.Timeout
    used: Callable[[], float] | None
    """Gives the processor time of a call into an environment; None: the engine or the whole episode."""
    told: float
    """The share of the limit at which the next line is due."""


class Pauses:
    """Notices that the whole process was stopped, as by Ctrl-Z, and goes on."""

    def __init__(self) -> None:
        self.continued = 0.0
        self._notices = False

    def notice(self) -> None:
        """Begin to, where nobody else does; only the main thread can."""
        if self._notices or threading.current_thread() is not threading.main_thread():
            return
        self._notices = True
        if signal.getsignal(signal.SIGCONT) == signal.SIG_DFL:
            signal.signal(signal.SIGCONT, lambda *_: setattr(self, "continued", time.monotonic()))


PAUSES = Pauses()


class Watchdog:
    """Sees every wait of a run's episodes; costs one timer while there is any.

    Deadlines do not run while the interpreter is frozen, so that one call which holds it (a C extension, a
    regular expression) fails one episode and not all that wait beside it. It is the call whose thread used
    the processor meanwhile; where none did, as in a C extension that sleeps, the one that began last is taken
    for it, since nothing can begin while it holds. Where the whole machine had no processor to give, or the
    process was stopped, it was nobody. A call that never lets go can only be named, by the stacks on stderr:
    interrupt the run, mend the call, and the same command goes on.

    Args:
        report: Is given each line; the program's log by default.
    """

    def __init__(self, report: Callable[[str], None] | None = None) -> None:
        self.report = logging.getLogger("agentrl").warning if report is None else report
        self.num_evicted = 0
        self.frozen_seconds = 0.0
        """Time in which no Python code ran."""
        self._waits: set[Wait] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._last = self._queued = self._said = self._told_eviction = self._armed = 0.0

    @contextlib.contextmanager
    def watch(
        self, place: Callable[[], str], seconds: float, *, used: Callable[[], float] | None = None
    ) -> Iterator[asyncio.Timeout]:
        """Give the timer of a wait, to be entered; what outlasts it is evicted."""
        now = time.monotonic()
        timer = asyncio.timeout(seconds)
        wait = Wait(place=place, began=now, limit=seconds, timer=timer, used=used, told=0.25)
        self._waits.add(wait)
        if self._handle is None:
            PAUSES.notice()
            self._last, self._queued = now, queued_seconds()
            self._handle = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        try:
            yield timer
        finally:
            self._waits.discard(wait)
            if timer.expired():
                self.num_evicted += 1
                self._tell_eviction(f"{place()}: evicted after {time.monotonic() - now:.1f} s")
            if not self._waits and self._handle is not None:
                self._handle.cancel()
                self._handle = None
                self._armed = 0.0
                faulthandler.cancel_dump_traceback_later()

    def _tick(self) -> None:
        now, last = time.monotonic(), self._last
        late, self._last = now - last - TICK_SECONDS, now
        before, self._queued = self._queued, queued_seconds()
        if late > FROZEN_SECONDS:
            is_held = self._queued - before < QUEUED_SHARE * late and PAUSES.continued < last
            self._thaw(late, now, is_held=is_held)
        self._look(now)
        if now - self._armed > STACKS_SECONDS / 10:
            self._armed = now
            faulthandler.dump_traceback_later(STACKS_SECONDS, file=STDERR)
        self._handle = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _thaw(self, seconds: float, now: float, *, is_held: bool) -> None:
        """Give every wait back the time that nobody had, but for the call that probably took it."""
        self.frozen_seconds += seconds
        holder, how = self._holder(seconds, now) if is_held else (None, "")
        if holder is not None and holder.limit > seconds:
            holder = None  # it may be as slow as this, or slow because of another
        for wait in self._waits:
            when = wait.timer.when()
            if wait is not holder and when is not None:
                with contextlib.suppress(RuntimeError):  # it has expired, or its work is just being ended
                    wait.timer.reschedule(when + seconds)
        if holder is not None:
            self._say(f"{holder.place()} {how} the interpreter: nothing else ran for {seconds:.1f} s")

    def _holder(self, seconds: float, now: float) -> tuple[Wait | None, str]:
        """Give the call that held the interpreter, and how sure that is."""
        began_before = now - seconds + TICK_SECONDS
        calls = [(w.used(), w) for w in self._waits if w.used is not None and w.began < began_before]
        busiest = max(calls, key=lambda call: call[0], default=None)
        if busiest is None:
            return None, ""
        if busiest[0] > HELD_SHARE * seconds:
            return busiest[1], "held"
        return max(calls, key=lambda call: call[1].began)[1], "probably held"

    def _look(self, now: float) -> None:
        late = [w for w in self._waits if now - w.began > w.told * w.limit]
        if not late or now - self._said < LINE_SECONDS:
            return
        worst = max(late, key=lambda w: (now - w.began) / w.limit)
        others = f"; {len(late) - 1} more wait long" if len(late) > 1 else ""
        self._say(f"{worst.place()}: no answer for {now - worst.began:.1f} s of {worst.limit:g} s{others}")
        for wait in late:
            wait.told *= 2

    def _tell_eviction(self, line: str) -> None:
        if time.monotonic() - self._told_eviction >= LINE_SECONDS:
            self._told_eviction = time.monotonic()
            self.report(f"{line} without an answer; {self.num_evicted} so far")

    def _say(self, line: str) -> None:
        self._said = time.monotonic()
        self.report(line)


def queued_seconds() -> float:
    """Give how long this thread was ready and got no processor; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0
