"""`agentrl COMMAND …`: finds the command, runs it, and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points

from agentrl.cli.command import SECTIONS, Command, parse, parser_for
from agentrl.cli.output import Output, columns
from agentrl.errors import ConfigError, InfrastructureError, RunStopped, unknown
from agentrl.terminal import harmless

GROUP = "agentrl.commands"
OK, FAILED, WRONG, STOPPED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143


def commands() -> dict[str, Command]:
    """Give the installed commands in the order in which a newcomer needs them."""
    found = {e.name: e.load() for e in entry_points(group=GROUP)}
    if not found:
        raise ConfigError(
            "agentrl is not installed, so it finds no commands: run `make setup` or `pip install .`"
        )
    order = ["demo", "new", "train", "bench", "play", "check"]
    rank = {name: i for i, name in enumerate(order)}
    return dict(sorted(found.items(), key=lambda pair: (rank.get(pair[0], len(rank)), pair[0])))


def load(name: str) -> Command:
    """Load one command.

    Raises:
        ConfigError: There is none of this name; names the nearest.
    """
    known = {e.name: e for e in entry_points(group=GROUP)}
    if name not in known:
        raise ConfigError(unknown("command", name, known or commands()))
    command: Command = known[name].load()
    return command


def overview() -> str:
    """Write the help of `agentrl` itself."""
    lines = [
        "usage: agentrl COMMAND …",
        "",
        "Train language-model agents that use tools, with reinforcement learning.",
    ]
    found = commands()
    width = max(map(len, found))
    for section in SECTIONS:
        rows = [(n.ljust(width), c.summary) for n, c in found.items() if c.section == section]
        if rows:
            lines += ["", f"{section}:", *(f"  {line}" for line in columns(rows))]
    return "\n".join(
        [*lines, "", "agentrl COMMAND --help says more and gives examples; --json suits programs."]
    )


def run(arguments: Sequence[str]) -> int:
    """Run one command line; errors rise."""
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(overview())
        return OK
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"agentrl {version('agentrl')}")
        return OK
    name, *rest = arguments
    if name.startswith("-"):
        raise ConfigError(f"{name!r} stands before a command: agentrl COMMAND {name} …")
    command = load(name)
    options = parse(parser_for(name, command), rest)
    return command.run(options, Output(json=options.json))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code.

    0 good, 1 failed, 2 wrong input, 3 the run stopped itself, 130 interrupted, 143 terminated.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in given
    stopped_by: list[int] = []

    def stop(number: int, frame: object) -> None:
        stopped_by.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        return run(given)
    except KeyboardInterrupt:
        print("\nagentrl: stopped", file=sys.stderr)
        return TERMINATED if stopped_by else INTERRUPTED
    except (ConfigError, InfrastructureError) as error:
        if debug:
            print(harmless(traceback.format_exc()), file=sys.stderr)
        print(f"agentrl: {one_line(error)}", file=sys.stderr)
        return exit_code(error)
    except BrokenPipeError:  # `agentrl envs | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if debug:
            print(harmless(traceback.format_exc()), file=sys.stderr)
        said = f"internal error: {type(error).__name__}: {one_line(error)}"
        print(f"agentrl: {said} (run with --debug for the traceback)", file=sys.stderr)
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_code(error: Exception) -> int:
    """Give the code of an error with a message for people."""
    if isinstance(error, ConfigError):
        return WRONG
    return STOPPED if isinstance(error, RunStopped) else FAILED


def one_line(error: Exception) -> str:
    r"""Write an error in one line.

    >>> one_line(ValueError("a\n  b\x1b[2J"))
    'a b\\x1b[2J'
    """
    return harmless(" ".join(str(error).split())) or type(error).__name__
