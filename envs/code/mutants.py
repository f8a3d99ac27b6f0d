"""Wrong programs close to a right one, which hidden tests have to tell from it.

The right one is the expert's source, written by our own families; no model's code is ever run here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

Change = Callable[[], None]
Slip = tuple[Change, Change]
"""How a tree is changed, and how that is undone."""
SWAPS: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Gt: ast.GtE(),
    ast.GtE: ast.Gt(),
    ast.Lt: ast.LtE(),
    ast.LtE: ast.Lt(),
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
}
THROUGH = ("sorted", "abs", "min", "max", "list")
"""Functions that a hurried author may forget to call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One wrong program."""

    functions: Mapping[str, Callable[..., Any]]
    vital: bool
    """Whether a whole step or branch is missing: a task in which that changes nothing is no good task."""

    def passes(self, function: str, arguments: tuple[Any, ...], expected: Any) -> bool:
        """Whether it gives the right result."""
        try:
            return bool(self.functions[function](*arguments) == expected)
        except Exception:  # whatever a wrong program does, it is not the right result
            return False


def mutants(source: str) -> Iterator[Mutant]:
    r"""Give the programs that are one slip away from a source: a step left out, a number off by one.

    Those that lack a whole step or branch come first.

    >>> wrong = mutants("def f(n):\n    return n + 7\n")
    >>> sorted(one.functions["f"](1) for one in wrong)
    [1, 7, 9]
    """
    tree = ast.parse(source)
    right: dict[str, Any] = {}
    exec(compile(tree, "<expert>", "exec"), right)
    codes = {name: f.__code__ for name, f in right.items() if type(f) is FunctionType}
    definitions = [one for one in tree.body if isinstance(one, ast.FunctionDef)]
    for vital, slips in ((True, _left_out), (False, _altered)):
        for definition in definitions:
            for change, undo in slips(definition):
                code = _compiled(definition, change, undo)
                yield Mutant(functions=_program(codes | {definition.name: code}), vital=vital)


def _program(codes: Mapping[str, CodeType]) -> dict[str, Any]:
    space: dict[str, Any] = {}
    space.update({name: FunctionType(code, space) for name, code in codes.items()})
    return space


def _compiled(definition: ast.FunctionDef, change: Change, undo: Change) -> CodeType:
    """Compile a function whose tree is changed for a moment."""
    change()
    try:
        module = compile(ast.Module(body=[definition], type_ignores=[]), "<mutant>", "exec")
    finally:
        undo()
    return next(c for c in module.co_consts if isinstance(c, CodeType))


def _left_out(definition: ast.FunctionDef) -> Iterator[Slip]:
    """Leave out statements that change a name by itself, and branches."""
    body = definition.body
    for i, one in enumerate(body):
        step = isinstance(one, ast.Assign) and _names(one.targets[0]) & _names(one.value)
        if step or isinstance(one, ast.If):
            yield _exchange(body, i, one, ast.copy_location(ast.Pass(), one))


def _altered(definition: ast.FunctionDef) -> Iterator[Slip]:
    """Change one expression or comparison."""
    for parent in ast.walk(definition):
        for name, value in ast.iter_fields(parent):
            if isinstance(value, ast.expr):
                yield from (_exchange(parent, name, value, new) for new in _instead(value))
            elif isinstance(value, list):
                for i, one in enumerate(value):
                    yield from (_exchange(value, i, one, new) for new in _instead(one))


def _names(tree: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def _exchange(holder: Any, place: Any, old: Any, new: Any) -> Slip:
    if isinstance(holder, list):
        return (lambda: holder.__setitem__(place, new)), (lambda: holder.__setitem__(place, old))
    return (lambda: setattr(holder, place, new)), (lambda: setattr(holder, place, old))


def _instead(value: ast.AST) -> Iterator[ast.AST]:
    """Give what may stand wrongly in the place of an expression or a comparison."""
    match value:
        case ast.cmpop() if type(value) in SWAPS:
            yield SWAPS[type(value)]
        case ast.Constant(value=bool(flag)):
            yield _constant(not flag, value)
        case ast.Constant(value=int(number)):
            yield _constant(number + 1, value)
            yield _constant(number - 1, value)
        case ast.Constant(value=str(letter)) if len(letter) == 1 and letter.islower():
            yield _constant("a" if letter == "z" else chr(ord(letter) + 1), value)
        case ast.BinOp():
            yield value.left
        case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in THROUGH:
            yield first
        case ast.ListComp(generators=[ast.comprehension(ifs=[_, *_]) as clause]):
            bare = ast.comprehension(target=clause.target, iter=clause.iter, ifs=[], is_async=0)
            yield ast.copy_location(ast.ListComp(elt=value.elt, generators=[bare]), value)


def _constant(new: Any, old: ast.expr) -> ast.expr:
    return ast.copy_location(ast.Constant(value=new), old)
