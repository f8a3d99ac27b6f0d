"""Reads `--set part.field=value` and `name=value`."""

from __future__ import annotations

import argparse
import ast
import inspect
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from agentrl.errors import ConfigError, unknown
from agentrl.registry import EnvSpec, resolve_env


def add_settings(parser: argparse.ArgumentParser, parts: str) -> None:
    """Add `--set`."""
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="PART.FIELD=VALUE",
        help=f"a setting of {parts}",
    )


def read_value(text: str) -> Any:
    """Read a value as Python or JSON writes it; anything else is text.

    >>> read_value("3"), read_value("true"), read_value("none"), read_value("pear"), read_value("[1, 2]")
    (3, True, None, 'pear', [1, 2])
    """
    words = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def read_pair(text: str) -> tuple[str, str]:
    """Split `name=value`.

    >>> read_pair("code=print(a==b)")
    ('code', 'print(a==b)')
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"{text!r} is no NAME=VALUE")
    return name, value


def read_settings(pairs: Iterable[str]) -> dict[str, Any]:
    """Read the values of `--set`; a name given twice is an error.

    >>> read_settings(["env.high=5", "loss.clip=none"])
    {'env.high': 5, 'loss.clip': None}
    """
    settings: dict[str, Any] = {}
    for name, value in map(read_pair, pairs):
        if name in settings:
            raise ConfigError(f"--set {name} is given twice: {settings[name]!r} and {value!r}")
        settings[name] = read_value(value)
    return settings


def settings_by_part(pairs: Iterable[str], parts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read the values of `--set` for each part of a command.

    >>> settings_by_part(["env.high=5"], ["env", "policy"])
    {'env': {'high': 5}, 'policy': {}}

    Raises:
        ConfigError: A part that the command does not have.
    """
    found: dict[str, dict[str, Any]] = {part: {} for part in parts}
    for name, value in read_settings(pairs).items():
        part, _, field = name.partition(".")
        if part not in found or not field:
            shown = " or ".join(f"{p}.FIELD=VALUE" for p in parts)
            raise ConfigError(f"--set {name}: {unknown('part', part, parts)}; write {shown}")
        found[part][field] = value
    return found


def environment_of(options: argparse.Namespace) -> EnvSpec:
    """Resolve the environment of a command that has no other parts.

    Raises:
        ConfigError: An unknown environment, part or setting, or --unsafe-local where nothing runs code.
    """
    return environment_with(options, settings_by_part(options.settings, ["env"])["env"])


def environment_with(options: argparse.Namespace, settings: dict[str, Any]) -> EnvSpec:
    """Resolve the environment of a command whose settings were read already."""
    if options.unsafe_local:
        settings = settings | without_walls(options.env)
    return resolve_env(options.env, **settings)


def runs_code(kind: Any) -> bool:
    """Whether an environment runs foreign code: then its constructor takes `isolation`."""
    return "isolation" in inspect.signature(kind).parameters


def without_walls(env: str) -> dict[str, Any]:
    """Give the setting that --unsafe-local stands for, and say so.

    Raises:
        ConfigError: The environment runs no code, so the option would do nothing.
    """
    if not runs_code(resolve_env(env).kind):
        raise ConfigError(
            f"--unsafe-local: {env} runs no code in a sandbox (it takes no `isolation`): leave it out"
        )
    warn_unsafe()
    return {"isolation": "none"}


def warn_unsafe() -> None:
    """Say on stderr what --unsafe-local means."""
    print(
        "agentrl: --unsafe-local: the model's code runs without a sandbox, with your rights", file=sys.stderr
    )
