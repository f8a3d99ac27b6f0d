"""Words as an attacker, a tool or a careless model would write them."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

from agentrl.dialect.tiny import CONTROL
from agentrl.message import Action, Call
from agentrl.plaintext import as_unicode
from agentrl.toolkit import Parameter, ToolSpec
from tests.dialect.tokenizers import LLAMA_SPECIAL, QWEN_ADDED, QWEN_SPECIAL

NAMES = (
    *CONTROL,
    *QWEN_SPECIAL,
    *QWEN_ADDED,
    *LLAMA_SPECIAL,
    "<tool_response>",
    "</tool_response>",
    "</answer>",
    "<answer>",
    "</result>",
    "<think>",
    "<s>",
    "</s>",
    "<unk>",
    "[INST]",
    "[/INST]",
    "<0x0A>",
    "<0xFF>",
)
ODD = (
    *"<>|/_ \n\t\r\0",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u0301",
    "e\u0301",
    "\uff1c",
    "\ufe64",
    "\u2581",
    "\u0120",
    "\u010a",
    "\ud83d",
    "\ude00",
    "\U0001f600",
    "\u202e",
    "  ",
    "im_end",
    "tool_call",
)
halves = st.builds(
    lambda name, cut: name[: max(1, cut % len(name))], st.sampled_from(NAMES), st.integers(0, 30)
)
pieces = st.one_of(
    st.sampled_from(NAMES), halves, st.sampled_from(ODD), st.text(st.characters(categories=None), max_size=6)
)
hostile = st.lists(pieces, max_size=12).map("".join)
"""Any string, lone surrogates included, thick with control tokens whole and in parts."""
words = hostile.map(lambda t: unicodedata.normalize("NFC", as_unicode(t)))
"""The same as a file could hold it, in the form that Qwen's normaliser leaves alone."""

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
TOOLS = (
    ToolSpec(name="now", description="Tell the time."),
    ToolSpec(name="price", description="Look up a price.", parameters=(Parameter(name="item", type=str),)),
    ToolSpec(name="roll", description="Roll dice.", parameters=(Parameter(name="sides", type=int),)),
    ToolSpec(
        name="order",
        description="Order\nsomething.",
        parameters=(
            Parameter(name="item", type=str),
            Parameter(name="count", type=int, required=False),
            Parameter(name="price", type=float),
            Parameter(name="fast", type=bool),
            Parameter(name="notes", type=list),
            Parameter(name="extra", type=dict, required=False),
        ),
    ),
)
VALUES: dict[type, st.SearchStrategy[object]] = {
    str: words,
    int: st.integers(-(10**18), 10**18),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    list: st.lists(json_values, max_size=3),
    dict: st.dictionaries(words, json_values, max_size=3),
}


@st.composite
def arguments(draw: st.DrawFn, spec: ToolSpec) -> dict[str, object]:
    """Arguments of the right types, optional ones now and then."""
    given = [p for p in spec.parameters if p.required or draw(st.booleans())]
    return {p.name: draw(VALUES[p.type]) for p in given}


@st.composite
def actions(draw: st.DrawFn, max_calls: int = 3) -> Action:
    """Text with calls of `TOOLS`."""
    specs = draw(st.lists(st.sampled_from(TOOLS), max_size=max_calls))
    calls = [Call(id=str(n), name=s.name, arguments=draw(arguments(s))) for n, s in enumerate(specs)]
    return Action(text=draw(words), calls=tuple(calls))
