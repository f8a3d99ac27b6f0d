"""What the model is told of a tool's arguments, and what becomes of those that it gives."""

from typing import Any, Literal

import numpy as np
import pytest

from agentrl.check.actions import Actor, odd_calls
from agentrl.errors import ConfigError, ToolError
from agentrl.policies import random_arguments
from agentrl.toolkit import ToolSpec, spec_of


def adding(
    numbers: list[int],
    prices: dict[str, float],
    rows: list[list[int]],
    kinds: list[Literal["a", "b"]],
    anything: list[Any],
    bare: list,  # type: ignore[type-arg]
    more: dict[str, Any],
) -> int:
    """Add up."""
    return sum(numbers)


def test_the_schema_says_what_lists_and_objects_hold() -> None:
    integer = {"type": "integer"}
    assert spec_of(adding).schema()["function"]["parameters"]["properties"] == {
        "numbers": {"type": "array", "items": integer},
        "prices": {"type": "object", "additionalProperties": {"type": "number"}},
        "rows": {"type": "array", "items": {"type": "array", "items": integer}},
        "kinds": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
        "anything": {"type": "array", "items": {}},
        "bare": {"type": "array", "items": {}},
        "more": {"type": "object"},
    }


@pytest.mark.parametrize(
    ("name", "given", "got"),
    [
        ("numbers", [1, "2"], [1, 2]),
        ("numbers", "[1, 2]", [1, 2]),
        ("prices", {"pear": 1, "plum": 0.5}, {"pear": 1.0, "plum": 0.5}),
        ("rows", [[1], []], [[1], []]),
        ("kinds", ["a", "b"], ["a", "b"]),
        ("anything", ["a", None], ["a", None]),
        ("bare", [1, "a"], [1, "a"]),
        ("more", {"a": [1]}, {"a": [1]}),
    ],
)
def test_elements_become_what_the_hint_says(name: str, given: object, got: object) -> None:
    assert only(name).bind({name: given}) == {name: got}


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("numbers", ["a"], r"adding: argument 'numbers\[0\]' is 'a'; it must be integer"),
        ("numbers", [1, True], r"'numbers\[1\]' is True; it must be integer"),
        ("numbers", 3, "'numbers' is 3; it must be array of integer"),
        ("prices", {"pear": "dear"}, r"prices\['pear'\]. is 'dear'; it must be number"),
        ("rows", [[1], [2, None]], r"'rows\[1\]\[1\]' is None; it must be integer"),
        ("kinds", ["c"], r"'kinds\[0\]' is 'c'; it must be one of \['a', 'b'\]"),
    ],
)
def test_a_wrong_element_is_told_to_the_model(name: str, given: object, message: str) -> None:
    with pytest.raises(ToolError, match=message):
        only(name).bind({name: given})


def test_keys_that_no_object_has_are_refused() -> None:
    def numbered(xs: dict[int, str]) -> None:
        """Take numbered texts."""

    with pytest.raises(ConfigError, match="keys .* are str"):
        spec_of(numbered)


def test_elements_of_any_other_hint_come_as_they_are() -> None:
    def mixed(xs: list[str | int], ys: list[tuple[int, int]], zs: dict[str, int | None]) -> None:
        """Take what it gets."""

    spec, given = spec_of(mixed), {"xs": ["a", 1], "ys": [[1, 2]], "zs": {"a": None}}
    assert spec.bind(given) == given
    properties = spec.schema()["function"]["parameters"]["properties"]
    assert properties["xs"] == properties["ys"] == {"type": "array", "items": {}}


def test_made_up_calls_fit_the_schema() -> None:
    spec, rng = spec_of(adding), np.random.default_rng(0)
    odd = [action.calls[0].arguments for action in odd_calls((spec,), rng)]
    assert len(odd) > 60
    for arguments in (
        *odd,
        Actor(tools=(spec,), rng=rng).call("0", ["pear", "7"]).arguments,
        random_arguments(spec, ["pear", "7"], rng),
    ):
        assert spec.bind(arguments).keys() == arguments.keys()
    assert random_arguments(spec, ["pear"], rng)["numbers"]


def only(name: str) -> ToolSpec:
    """Give the tool with one of its parameters."""
    spec = spec_of(adding)
    return ToolSpec(
        name="adding", description="", parameters=tuple(p for p in spec.parameters if p.name == name)
    )
