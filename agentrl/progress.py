"""Shows how long work goes: one line per phase, live in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TextIO

from agentrl.curve import sparkline
from agentrl.terminal import harmless

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars

Metrics = Mapping[str, float]
NAME_WIDTH = 17
PLAIN_SECONDS = 5.0
"""Without a terminal, a phase says where it stands this often."""


class Progress(Protocol):
    """Is told what happens; phases come one after another."""

    def phase(self, name: str, total: int) -> None:
        """Begin a phase of `total` steps; it ends the one before."""
        ...

    def advance(self, metrics: Metrics | None = None, *, steps: int = 1) -> None:
        """Go on by `steps`; `metrics` replaces what is shown beside the bar."""
        ...

    def remark(self, text: str) -> None:
        """Show words behind the current phase from now on, such as what came out of it."""
        ...

    def note(self, text: str) -> None:
        """Print a line of its own."""
        ...

    def close(self) -> None:
        """End the last phase; may be called twice."""
        ...


def share(value: float) -> str:
    """Write a share in 0..1 in two places.

    >>> share(0.934), share(1.0), share(float("nan"))
    ('.93', '1.00', '–')
    """
    return "–" if value != value else f"{value:.2f}".removeprefix("0")


def thousands(value: float) -> str:
    """Write a rate in few letters.

    >>> thousands(21_400), thousands(830.0)
    ('21k', '830')
    """
    return (
        f"{value / 1000:.0f}k"
        if value >= 9_500
        else f"{value / 1000:.1f}k"
        if value >= 950
        else f"{value:.0f}"
    )


def duration(seconds: float) -> str:
    """Write a time as a person says it.

    >>> duration(8.2), duration(75), duration(7300)
    ('8 s', '1 min 15 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def wording(name: str, value: float) -> str:
    """Write one metric; the names that the framework uses have short forms.

    >>> wording("success", 0.93), wording("tokens_per_second", 21_400), wording("learning_rate", 0.001)
    ('success .93', '21k tok/s', 'learning rate 0.001')
    """
    if name in {"success", "reward"}:
        return f"{name} {share(value)}" if 0 <= value <= 1 else f"{name} {value:.2f}"
    if name == "tokens_per_second":
        return f"{thousands(value)} tok/s"
    if name.endswith("_share"):
        return f"{name.removesuffix('_share').replace('_', ' ')} {value:.0%}".replace("%", " %")
    return f"{name.replace('_', ' ')} {value:.4g}"


class Phase:
    """One phase so far: what is done, how long it took, what to say of it."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done = name, total, 0
        self.started = time.monotonic()
        self.ended: float | None = None
        self.curve: list[float] = []
        self.metrics: dict[str, float] = {}
        self.words = ""

    def advance(self, metrics: Metrics | None, steps: int) -> None:
        """Take note of some steps."""
        self.done += steps
        if metrics:
            self.metrics = dict(metrics)
            if (value := metrics.get("success")) is not None and value == value:
                self.curve.append(value)
        if self.complete:
            self.ended = time.monotonic()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.done >= self.total

    @property
    def seconds(self) -> float:
        """How long it has run, or did."""
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    def text(self) -> str:
        """Give what stands behind the bar."""
        cells = []
        for name, value in self.metrics.items():
            cells.append(wording(name, value))
            if name == "success" and len(self.curve) > 1:
                cells.append(sparkline(self.curve, 8))
        if self.words:
            cells.append(self.words)
        return "  ".join(cells)

    def line(self) -> str:
        """Give count, time and the rest."""
        count = f"{self.done}/{self.total}"
        return f"{count:>7}  {self.time():>10}  {self.text()}".rstrip()

    def end(self) -> None:
        """Take note that nothing more will come, whatever is left."""
        self.ended = self.ended or time.monotonic()

    def time(self) -> str:
        """Give the time left, or the time it took once it has ended."""
        if self.ended is not None or not self.done:
            return duration(self.seconds)
        return f"{duration(self.seconds / self.done * (self.total - self.done))} left"


class SilentProgress:
    """Shows nothing."""

    def phase(self, name: str, total: int) -> None: ...

    def advance(self, metrics: Metrics | None = None, *, steps: int = 1) -> None: ...

    def remark(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


class PlainProgress:
    """Writes plain lines: where a phase stands every few seconds, and how it ended."""

    def __init__(self, stream: TextIO | None = None, *, seconds: float = PLAIN_SECONDS) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._seconds = seconds
        self._phase: Phase | None = None
        self._shown = 0.0

    def phase(self, name: str, total: int) -> None:
        self.close()
        self._phase, self._shown = Phase(name, total), time.monotonic()

    def advance(self, metrics: Metrics | None = None, *, steps: int = 1) -> None:
        assert self._phase is not None, "advance before phase"
        self._phase.advance(metrics, steps)
        if time.monotonic() - self._shown >= self._seconds and not self._phase.complete:
            self._show(self._phase)

    def remark(self, text: str) -> None:
        if self._phase is not None:
            self._phase.words = text

    def note(self, text: str) -> None:
        if self._phase is not None and self._phase.complete:
            self.close()
        self._print(text)

    def close(self) -> None:
        phase, self._phase = self._phase, None
        if phase is not None and phase.done:
            phase.end()
            self._show(phase)

    def _show(self, phase: Phase) -> None:
        self._shown = time.monotonic()
        self._print(f"  {phase.name:<{NAME_WIDTH}} {phase.line()}")

    def _print(self, text: str) -> None:
        print(harmless(text), file=self._stream, flush=True)


class RichProgress:
    """Draws one live line per phase in a terminal; it stays when the phase is over."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._bars: Bars | None = None
        self._phase: Phase | None = None

    def phase(self, name: str, total: int) -> None:
        self.close()
        self._phase, self._bars = Phase(name, total), new_bars(self._console)
        self._bars.add_task(harmless(name), total=total, text="")
        self._bars.start()

    def advance(self, metrics: Metrics | None = None, *, steps: int = 1) -> None:
        assert self._phase is not None, "advance before phase"
        self._phase.advance(metrics, steps)
        self._draw()

    def remark(self, text: str) -> None:
        if self._phase is not None:
            self._phase.words = text
            self._draw()

    def note(self, text: str) -> None:
        if self._phase is not None and self._phase.complete:
            self.close()
        self._console.print(harmless(text), markup=False, soft_wrap=True)

    def close(self) -> None:
        if self._phase is not None and self._bars is not None:
            self._phase.end()
            self._draw()
            self._bars.stop()
        self._phase = self._bars = None

    def _draw(self) -> None:
        phase, bars = self._phase, self._bars
        assert phase is not None and bars is not None
        bars.update(bars.task_ids[0], completed=phase.done, text=harmless(phase.line()))


def new_bars(console: Console) -> Bars:
    """Make the live line of one phase."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn(f"  {{task.description:<{NAME_WIDTH}}}", markup=False),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[text]}", markup=False),
    )
    return Bars(*columns, console=console, refresh_per_second=8)


def progress_for(stream: TextIO | None) -> Progress:
    """Choose what fits a stream: live lines in a terminal, plain ones elsewhere, none where it is closed."""
    if stream is None:
        return SilentProgress()
    return RichProgress(stream) if stream.isatty() else PlainProgress(stream)
