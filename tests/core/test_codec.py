"""Serialisation is lossless to the bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agentrl.codec import encode, from_bytes, to_bytes
from agentrl.episode import Columns, Context, Episode, Segment, as_ids
from agentrl.errors import ConfigError
from agentrl.message import Action, Call, Text

texts = st.lists(
    st.sampled_from(["\ud83d", "\ude00", "é"]) | st.characters(categories=None), max_size=20
).map("".join)
data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def segments(draw: Any) -> Segment:
    n = draw(st.integers(0, 6))
    ids = draw(arrays(np.int32, n))
    if draw(st.booleans()):
        return Segment(kind=draw(st.sampled_from(["prompt", "observation", "forced"])), ids=ids)
    finite = arrays(np.float32, n, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
    columns = Columns(
        logp=draw(finite), untempered=draw(finite), entropy=draw(finite), version=as_ids([3] * n)
    )
    return Segment(kind="action", ids=ids, columns=columns)


@given(st.lists(segments(), max_size=4), texts, st.dictionaries(texts, data, max_size=3))
def test_episodes_come_back_as_they_were(parts: list[Segment], text: str, arguments: dict[str, Any]) -> None:
    episode = Episode(
        id="e",
        task_id="t",
        group_id="g",
        finish="terminated",
        contexts=(Context(segments=tuple(parts)),),
        reward=0.1,
    )
    action = Action(text=text, calls=(Call(id="0", name=text, arguments=arguments),), malformed=(text,))
    stored = to_bytes((episode, action, Text(text)))
    again, *said = from_bytes(stored)
    assert repr(said) == repr([action, Text(text)])  # a NaN is not equal to itself
    assert to_bytes(from_bytes(stored)) == stored
    for old, new in zip(parts, again.contexts[0].segments, strict=True):
        assert old.ids.tobytes() == new.ids.tobytes() and old.kind == new.kind
        assert (old.columns is None) == (new.columns is None)
        if old.columns is not None:
            assert old.columns.logp.tobytes() == new.columns.logp.tobytes()
            assert new.columns.entropy.dtype == np.float32


@pytest.mark.parametrize(
    "bad", [b"", b"{", b'{"$":"Nothing"}', b'{"$":"array","dtype":"|O","shape":[1],"data":""}']
)
def test_what_is_no_episode_is_refused(bad: bytes) -> None:
    with pytest.raises(ConfigError, match="no recorded episode"):
        from_bytes(bad)


def test_objects_are_refused_on_writing() -> None:
    with pytest.raises(TypeError, match="cannot be stored"):
        encode(object())


def test_columns_belong_to_sampled_tokens_only() -> None:
    column = np.zeros(2, dtype=np.float32)
    columns = Columns(logp=column, untempered=column, entropy=column, version=as_ids([0, 0]))
    with pytest.raises(ValueError, match="only actions are sampled"):
        Segment(kind="observation", ids=as_ids([1, 2]), columns=columns)
    with pytest.raises(ValueError, match="need one each"):
        Segment(kind="action", ids=as_ids([1]), columns=columns)
    action = Segment(kind="action", ids=as_ids([1, 2]), columns=columns)
    context = Context(segments=(Segment(kind="prompt", ids=as_ids([9])), action))
    assert context.sampled.tolist() == context.trained.tolist() == [False, True, True]
    again = context.with_prompt([7, 8])
    assert again.trained.tolist() == [False, False, True, True] and not again.sampled.any()
    assert np.isnan(again.column("logp")).all()
