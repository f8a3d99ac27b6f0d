"""`agentrl new`: a starter environment, its test and its training script."""

from __future__ import annotations

import argparse
import builtins
import keyword
import re
import sys
from importlib.metadata import packages_distributions
from importlib.resources import files
from pathlib import Path

import agentrl
from agentrl.cli.command import Command
from agentrl.cli.output import Output
from agentrl.errors import ConfigError

FILES = {"{}.py": "env.py.txt", "test_{}.py": "test.py.txt", "train_{}.py": "train.py.txt"}


FITTING = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
RESERVED = frozenset({"conftest", "setup"})


def class_name(name: str) -> str:
    """Make the name of the class.

    >>> class_name("my_env")
    'MyEnv'
    """
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def checked_name(name: str) -> str:
    """Check that a module can have this name without hiding another.

    Raises:
        ConfigError: It cannot.
    """
    name = name.removesuffix(".py")
    if not FITTING.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a module: begin with a letter and use up to 64 letters, "
            "digits and '_', as in my_env"
        )
    if name in RESERVED or name.startswith("test_"):
        raise ConfigError(
            f"{name!r} is a name that pytest or pip reads specially: take another, as in my_env"
        )
    if name in sys.stdlib_module_names or is_installed(name) or is_taken(class_name(name)):
        raise ConfigError(
            f"{name!r} would hide what Python or AgentRL calls so: take another name, as in my_{name}"
        )
    return name


def is_taken(name: str) -> bool:
    """Whether Python or AgentRL calls something else so, which a class of this name would hide."""
    return hasattr(builtins, name) or name in dir(agentrl)


def is_installed(name: str) -> bool:
    """Whether an installed package, or one of its modules, has this name."""
    return name == "agentrl" or name in packages_distributions()


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("name", metavar="NAME", help="name of the environment's module, as in my_env")


def write(name: str, folder: Path) -> list[Path]:
    """Write the three files.

    Raises:
        ConfigError: One of them exists; nothing is written.
    """
    targets = {folder / target.format(name): source for target, source in FILES.items()}
    for target in targets:
        if target.exists():
            raise ConfigError(
                f"{target.name} exists and is not overwritten: take another name, or move it away"
            )
    for target, source in targets.items():
        text = files("agentrl.cli").joinpath("starter", source).read_text(encoding="utf-8")
        try:
            target.write_text(
                text.replace("$CLASS", class_name(name)).replace("$NAME", name), encoding="utf-8"
            )
        except OSError as error:
            raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
    return list(targets)


def run(options: argparse.Namespace, out: Output) -> int:
    """Write them and say what to do next."""
    name = checked_name(options.name)
    written = write(name, Path.cwd())
    env = f"{name}:{class_name(name)}"
    for path, what in zip(written, ("the environment", "its test", "its training"), strict=True):
        out.say(f"  {path.name:<{len(name) + 10}} {what}")
    nexts = [f"agentrl play {env}", f"agentrl check {env}", f"agentrl train {env} --model tiny"]
    out.say("next: " + "\n      ".join(nexts))
    out.result({"env": env, "files": [path.name for path in written], "next": nexts})
    return 0


COMMAND = Command(
    section="Start here",
    summary="write a starter environment, its test and its training script",
    examples=("agentrl new my_env",),
    configure=configure,
    run=run,
)
