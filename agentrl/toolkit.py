"""Tools: typed functions whose hints and docstring are the schema that the model reads."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args, get_origin

from agentrl.errors import ConfigError, ToolError, unknown

Function = TypeVar("Function", bound=Callable[..., Any])
JSON_TYPES: dict[type, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    list: "array",
    dict: "object",
}
MARK = "__agentrl_tool__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One argument of a tool; `choices` comes from a `Literal` hint."""

    name: str
    type: type
    choices: tuple[Any, ...] = ()
    required: bool = True
    element: Parameter | None = None
    """What a list's elements or an object's values are, as in `list[int]`; None: anything."""

    def schema(self) -> dict[str, Any]:
        """Give its JSON schema; servers refuse an array without `items`."""
        schema: dict[str, Any] = {"type": JSON_TYPES[self.type]}
        if self.type is list:
            schema["items"] = self.element.schema() if self.element else {}
        elif self.element:
            schema["additionalProperties"] = self.element.schema()
        return schema | ({"enum": list(self.choices)} if self.choices else {})

    @property
    def wanted(self) -> str:
        """What it must be, in words.

        >>> Parameter(name="xs", type=list, element=Parameter(name="xs[]", type=int)).wanted
        'array of integer'
        """
        if self.choices:
            return f"one of {list(self.choices)}"
        return JSON_TYPES[self.type] + (f" of {self.element.wanted}" if self.element else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """What the model is told of a tool."""

    name: str
    description: str
    parameters: tuple[Parameter, ...] = ()
    function: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    """What runs it, without the parameters that the environment fills in; None for a bare description."""

    def schema(self) -> dict[str, Any]:
        """Give the function schema in the form that chat templates expect."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": {
                    "type": "object",
                    "properties": {p.name: p.schema() for p in self.parameters},
                    "required": [p.name for p in self.parameters if p.required],
                },
            },
        }

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Check and convert the arguments of a call; tag dialects give every value as text.

        Raises:
            ToolError: An unknown, missing or wrongly typed argument; the message is for the model.
        """
        known = {p.name: p for p in self.parameters}
        for name in arguments:
            if name not in known:
                raise ToolError(f"{self.name}: {unknown('argument', name, known)}")
        missing = [p.name for p in self.parameters if p.required and p.name not in arguments]
        if missing:
            raise ToolError(f"{self.name}: argument {missing[0]!r} is missing")
        return {name: convert(value, known[name], self.name) for name, value in arguments.items()}


def tool(function: Function) -> Function:
    """Mark a method of a `ToolEnv` as a tool of the model.

    Its parameters need type hints (str, int, float, bool, list, dict, or a `Literal` of one type; also
    `list[int]` or `dict[str, float]`, whose elements are checked) and it needs a docstring; what it returns
    is shown to the model through `str`.

    >>> @tool
    ... def price(item: str) -> int:
    ...     "Look up a price."
    ...     return 12
    >>> spec_of(price).schema()["function"]["parameters"]["required"]
    ['item']
    """
    setattr(function, MARK, True)
    return function


def is_tool(function: object) -> bool:
    """Whether `tool` marked it."""
    return getattr(function, MARK, False) is True


def spec_of(function: Callable[..., Any], *, hidden: tuple[str, ...] = ()) -> ToolSpec:
    """Read a tool's specification from its hints and docstring.

    Args:
        function: A function or bound method.
        hidden: Parameters that the environment fills in; the model never sees them.

    Raises:
        ConfigError: A parameter without a usable hint, or no docstring.
    """
    name = function.__name__
    description = inspect.getdoc(function)
    if not description:
        raise ConfigError(f"tool {name!r} has no docstring: the model reads it, so say what the tool does")
    hints = typing.get_type_hints(function)
    parameters = [
        _argument(name, parameter, hints.get(parameter.name))
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in {"self", *hidden}
    ]
    return ToolSpec(name=name, description=description, parameters=tuple(parameters), function=function)


def _argument(tool_name: str, given: inspect.Parameter, hint: object) -> Parameter:
    various = given.kind in (given.VAR_POSITIONAL, given.VAR_KEYWORD)
    parameter = _parameter(tool_name, given.name, None if various else hint)
    return replace(parameter, required=given.default is inspect.Parameter.empty)


def _parameter(tool_name: str, name: str, hint: object) -> Parameter:
    """Read a hint; an element has its list's name with brackets."""
    choices: tuple[Any, ...] = get_args(hint) if get_origin(hint) is Literal else ()
    base = type(choices[0]) if choices else get_origin(hint) or hint
    if base not in JSON_TYPES:
        allowed = ", ".join(t.__name__ for t in JSON_TYPES)
        raise ConfigError(f"tool {tool_name!r}: parameter {name!r} needs a type hint out of {allowed}")
    held = () if choices else get_args(hint)
    if base is dict and held and held[0] is not str:
        raise ConfigError(f"tool {tool_name!r}: parameter {name!r}: the keys of a JSON object are str")
    element = _parameter(tool_name, f"{name}[]", held[-1]) if held and _is_known(held[-1]) else None
    return Parameter(name=name, type=typing.cast(type, base), choices=choices, element=element)


def _is_known(hint: object) -> bool:
    """Whether elements of this hint can be checked; those of others are given as they come."""
    return get_origin(hint) is Literal or (get_origin(hint) or hint) in JSON_TYPES


def convert(value: object, parameter: Parameter, tool_name: str) -> object:
    """Turn a value as the model wrote it into the parameter's type.

    >>> convert("12", Parameter(name="n", type=int), "add")
    12
    """
    result = _read(value, parameter.type)
    if type(result) is not parameter.type or (parameter.choices and result not in parameter.choices):
        raise ToolError(
            f"{tool_name}: argument {parameter.name!r} is {_short(value)}; it must be {parameter.wanted}"
        )
    if parameter.element is None:
        return result
    if isinstance(result, dict):
        return {k: convert(v, _placed(parameter, k), tool_name) for k, v in result.items()}
    assert isinstance(result, list)
    return [convert(v, _placed(parameter, i), tool_name) for i, v in enumerate(result)]


def fits(value: object, parameter: Parameter) -> bool:
    """Whether a tool takes a value, converted or not."""
    try:
        convert(value, parameter, "")
    except ToolError:
        return False
    return True


def _placed(parameter: Parameter, place: object) -> Parameter:
    """Give the element at a place, named as the model finds it."""
    assert parameter.element is not None
    return replace(parameter.element, name=f"{parameter.name}[{_short(place)}]")


def _read(value: object, wanted: type) -> object:
    if isinstance(value, str) and wanted is not str:
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value
    if wanted is float and type(value) is int:
        return float(value)
    return value


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
