"""Settings by name, as the command line gives them."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

from agentrl.errors import ConfigError, unknown
from agentrl.trainers.recipe import Recipe


def with_settings(recipe: Callable[..., Recipe], settings: Mapping[str, Any]) -> Recipe:
    """Call an algorithm with settings; words are read as the type of the keyword.

    Raises:
        ConfigError: A setting that does not exist, or a value of the wrong type.

    >>> from agentrl.trainers.grpo import grpo
    >>> with_settings(grpo, {"clip_low": "0.1", "kl_estimator": "none"}).bounds.low
    0.1
    >>> with_settings(grpo, {"clip_hihg": "0.3"})
    Traceback (most recent call last):
    ...
    agentrl.errors.ConfigError: no setting 'clip_hihg'; did you mean 'clip_high'?
    """
    known = keywords(recipe)
    for name in settings:
        if name not in known:
            raise ConfigError(unknown("setting", name, list(known)))
    return recipe(**{name: read_value(name, value, known[name]) for name, value in settings.items()})


def keywords(recipe: Callable[..., Recipe]) -> dict[str, Any]:
    """Give the type of every setting of an algorithm, those that it has in common with others too.

    >>> from agentrl.trainers.grpo import grpo
    >>> keywords(grpo)["clip_low"], keywords(grpo)["steps"]
    (<class 'float'>, <class 'int'>)
    """
    hints = typing.get_type_hints(recipe)
    known: dict[str, Any] = {}
    for parameter in inspect.signature(recipe).parameters.values():
        hint = hints.get(parameter.name, Any)
        if parameter.kind is not parameter.VAR_KEYWORD:
            known[parameter.name] = hint
        elif typing.get_origin(hint) is typing.Unpack:
            known |= typing.get_type_hints(typing.get_args(hint)[0])
    return known


def read_value(name: str, value: Any, hint: Any) -> Any:
    """Check a value against a type hint; a word is converted first.

    >>> read_value("steps", "12", int), read_value("max_length", "none", int | None)
    (12, None)
    """
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        accepted, result = _as(value, option)
        if accepted:
            return result
    raise ConfigError(f"{name}={value!r}: need {' or '.join(map(_describe, options))}")


def _as(value: Any, hint: Any) -> tuple[bool, Any]:
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint), value
    if hint is type(None):
        return value is None or str(value).lower() == "none", None
    if hint is bool:
        words = {"true": True, "false": False}
        return isinstance(value, bool) or str(value).lower() in words, words.get(str(value).lower(), value)
    if hint in (int, float) and not isinstance(value, bool) and isinstance(value, (str, int, float)):
        return _number(value, hint)
    return hint is str and isinstance(value, str), value


def _number(value: str | int | float, hint: type[int] | type[float]) -> tuple[bool, Any]:
    if hint is int and isinstance(value, float):
        return value.is_integer(), int(value) if value.is_integer() else value
    try:
        return True, hint(value)
    except ValueError:
        return False, value


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    names = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a word",
        type(None): "none",
    }
    return names.get(hint, "a value that only code can give")
