"""What progress looks like in a terminal and elsewhere."""

import io

from agentrl.progress import PlainProgress, Progress, RichProgress, SilentProgress, progress_for


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    """Report a short run."""
    progress.note("tiny Qwen2, 0.35M")
    progress.phase("warm start", 2)
    progress.advance(steps=2)
    progress.remark("a sloppy expert that solves 24 %")
    progress.phase("GRPO", 4)
    for success in (0.25, 0.5, 0.75, 1.0):
        progress.advance({"success": success, "tokens_per_second": 21_000, "failures": 0})
    progress.close()
    progress.close()


def test_plain_lines() -> None:
    stream = io.StringIO()
    work(PlainProgress(stream))
    head, warm, rl = stream.getvalue().splitlines()
    assert head == "tiny Qwen2, 0.35M"
    assert warm.split() == "warm start 2/2 0 s a sloppy expert that solves 24 %".split()
    assert rl.split() == "GRPO 4/4 0 s success 1.00 ▃▅▆█ 21k tok/s failures 0".split()


def test_plain_lines_come_while_it_runs() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, seconds=0)
    progress.phase("GRPO", 3)
    progress.advance()
    assert "1/3" in stream.getvalue() and "left" in stream.getvalue()


def test_a_phase_that_ends_early_says_how_long_it_took() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.phase("GRPO", 40)
    progress.advance(steps=25)
    progress.close()
    progress.note("what came out")
    assert stream.getvalue().split() == "GRPO 25/40 0 s what came out".split()


def test_an_untouched_phase_leaves_no_line() -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream)
    progress.phase("GRPO", 3)
    progress.close()
    assert stream.getvalue() == ""


def test_live_lines() -> None:
    stream = Terminal()
    work(RichProgress(stream))
    assert "4/4" in stream.getvalue() and "success 1.00" in stream.getvalue()


def test_silence() -> None:
    work(SilentProgress())


def test_without_a_stream_nothing_is_shown() -> None:
    """Python has no sys.stderr where a daemon was started without one."""
    assert isinstance(progress_for(None), SilentProgress)
