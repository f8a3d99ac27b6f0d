"""What the model is told of a tool agrees with what the tool does."""

from __future__ import annotations

import inspect
import re
from typing import Any

import gymnasium

from agentrl.check.bench import Bench, Game
from agentrl.check.checks.insiders import USUAL
from agentrl.check.report import MARK, Faulty, NotApplicable
from agentrl.errors import InfrastructureError, ToolError
from agentrl.message import call
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import ToolSpec, convert, is_tool

FRAMEWORK_NAMES = frozenset(
    {"fork", "expert", "isolation", "tasks", "blocking", "deterministic", "max_turns"}
)
MOST_PARAMETERS = 12
SECTION = re.compile(r"^(?:args|arguments|parameters):$", re.IGNORECASE)
ENTRY = re.compile(r"^\s+\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s")
UNFIT = re.compile(r"unexpected keyword|required (?:positional|keyword)|positional-only|positional argument")
SPHINX = re.compile(r"^\s*:param\s+(?:\w+\s+)?(\w+):")


def refuse_taken_names(kind: Any) -> None:
    """Refuse tools named like what an environment has anyway: each would replace the other."""
    base = next(
        (k for k in (ToolEnv, gymnasium.Env) if inspect.isclass(kind) and issubclass(kind, k)), object
    )
    taken = {*dir(base), *FRAMEWORK_NAMES}
    for name in taken & set(dir(kind)):
        if is_tool(inspect.getattr_static(kind, name)):
            raise Faulty(
                f"a @tool is named {name!r}, which {base.__name__} needs itself: rename it, "
                f"such as {name.strip('_')}_it"
            )


async def tool_schemas(bench: Bench) -> str:
    """Every tool says what it does, and takes what its schema says."""
    async with bench.open() as table:
        refuse_taken_names(bench.spec.kind)
        game = table.new()
        if not game.env.tools:
            raise NotApplicable("it has no tools")
        for spec in game.env.tools:
            if len(spec.parameters) > MOST_PARAMETERS:
                raise Faulty(f"tool {spec.name!r} has more than {MOST_PARAMETERS} parameters: split it")
            _refuse_other_names(spec)
            _refuse_odd_defaults(spec)
        for spec in game.env.tools:
            await _takes_its_schema(game, spec)
    short = [spec.name for spec in game.env.tools if len(spec.description.split()) < 2]
    warning = f"; {MARK}one word says little of {', '.join(short)}: the model reads it" if short else ""
    return f"{len(game.env.tools)} tools have a schema and a docstring{warning}"


def _refuse_other_names(spec: ToolSpec) -> None:
    """Refuse a docstring that explains parameters which do not exist."""
    known = {p.name for p in spec.parameters}
    for name in described(spec.description):
        if name not in known:
            raise Faulty(
                f"the docstring of tool {spec.name!r} explains a parameter {name!r}, but it has "
                f"{', '.join(sorted(known)) or 'none'}: the model reads both, so make them agree"
            )


def described(docstring: str) -> list[str]:
    r"""Give the parameters that a docstring explains, in the usual forms.

    >>> described("Look up.\n\nArgs:\n    item: What to look up.\n")
    ['item']
    """
    names, inside, indent = [], False, 0
    for line in docstring.splitlines():
        depth = len(line) - len(line.lstrip())
        if SECTION.match(line.strip()):
            inside, indent = True, 0
        elif inside and line.strip():
            indent = indent or depth
            inside = depth >= indent > 0
            if inside and depth == indent and (found := ENTRY.match(line)):
                names.append(found[1])
        if found := SPHINX.match(line):
            names.append(found[1])
    return names


def _refuse_odd_defaults(spec: ToolSpec) -> None:
    """Refuse a default that the model itself could not give."""
    if spec.function is None:
        return
    by_name = {p.name: p for p in spec.parameters}
    for name, parameter in inspect.signature(spec.function).parameters.items():
        if parameter.default in (inspect.Parameter.empty, None) or name not in by_name:
            continue
        try:
            convert(parameter.default, by_name[name], spec.name)
        except ToolError as error:
            raise Faulty(
                f"the default {name}={parameter.default!r} does not fit its own type hint ({error})"
            ) from error


async def _takes_its_schema(game: Game, spec: ToolSpec) -> None:
    """See that the function takes the arguments that its schema names, all of them and the required alone."""
    usual = {p.name: (p.choices or USUAL[p.type])[0] for p in spec.parameters}
    required = {p.name: usual[p.name] for p in spec.parameters if p.required}
    for arguments in (usual, required):
        await game.start(game.bench.task(0))
        try:
            await game.act(call(spec.name, **arguments))
        except InfrastructureError as error:
            if isinstance(error.__cause__, TypeError) and UNFIT.search(str(error)):
                raise Faulty(
                    f"tool {spec.name!r} does not take the arguments of its own schema "
                    f"({', '.join(arguments)}): {error.__cause__}; what runs needs the shown signature"
                ) from error
