"""What a command is, and how its arguments are read."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from agentrl.cli.output import Output
from agentrl.errors import ConfigError, unknown

Section = Literal["Start here", "Train and measure", "Environments and tools", "This machine"]
SECTIONS: tuple[Section, ...] = ("Start here", "Train and measure", "Environments and tools", "This machine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One subcommand; its name is that of its entry point in the group `agentrl.commands`."""

    section: Section
    summary: str
    """One line for the list of commands."""
    examples: tuple[str, ...]
    """Lines that work as they stand."""
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Output], int]
    """Does it and gives the exit code."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog.removeprefix('agentrl ')}: {message} (see {self.prog} --help)")


def parser_for(name: str, command: Command) -> Parser:
    """Make the parser of a command, with the options that all have."""
    parser = Parser(
        prog=f"agentrl {name}",
        description=command.summary[0].upper() + command.summary[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  {line}" for line in command.examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.configure(parser)
    common = parser.add_argument_group("reporting")
    common.add_argument("--json", action="store_true", help="end with one line of JSON on stdout")
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command's arguments.

    Raises:
        ConfigError: They are wrong; an unknown option names the nearest.
    """
    known = [name for action in parser._actions for name in action.option_strings]
    given = list(itertools.takewhile(lambda word: word != "--", arguments))
    for name in (word.partition("=")[0] for word in given if word.startswith("--")):
        if name not in known:
            raise ConfigError(unknown("option", name, (k for k in known if k.startswith("--"))))
    return parser.parse_args(arguments)


def at_least(least: int) -> Callable[[str], int]:
    """Make the reader of a whole number that must not be smaller.

    >>> at_least(1)("3")
    3
    """

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: need a whole number of {least} or more")
        return int(text)

    return read


def add_environment(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add the argument that names an environment, and what belongs to it."""
    parser.add_argument(
        "env",
        metavar="ENV",
        nargs="?" if optional else None,
        help="code, agentrl/Code-v0, module:Class or file.py:Class",
    )
    parser.add_argument("--unsafe-local", action="store_true", help="run the model's code without a sandbox")


def add_task_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose tasks."""
    parser.add_argument("--level", type=int, help="difficulty (default: the lowest)")
    parser.add_argument("--split", default="test", help="train, test or ood (default: test)")
    parser.add_argument(
        "--seed", type=at_least(0), default=0, help="which tasks, which random choices (default: 0)"
    )
