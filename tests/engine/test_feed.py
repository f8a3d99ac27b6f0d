"""What a step feeds, by hand and for any state of the rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentrl.engine.feed import Feed, Span, compose
from agentrl.engine.rows import IDLE, LIVE, Rows

POSITIONS = 64


def rows_of(state: list[tuple[int, int, int]]) -> Rows:
    """Rows of (state, known, filled); token j of row i has the id 100 i + j."""
    rows = Rows(len(state), POSITIONS)
    for i, (kind, known, filled) in enumerate(state):
        rows.state[i], rows.known[i], rows.filled[i] = kind, known, filled
        rows.ids[i, :known] = 100 * i + np.arange(known)
    return rows


def test_samples_and_prompts_share_a_step() -> None:
    rows = rows_of([(LIVE, 9, 8), (LIVE, 5, 0), (IDLE, 4, 3), (LIVE, 20, 16), (LIVE, 7, 6)])
    feed = compose(rows, budget=9, turn=0, call_cost=192)
    assert feed.ids.tolist() == [8, 406, 100, 101, 102, 103, 104, 316, 317]
    assert feed.rows.tolist() == [0, 4, 1, 1, 1, 1, 1, 3, 3]
    assert feed.positions.tolist() == [8, 6, 0, 1, 2, 3, 4, 16, 17]
    assert feed.sampled.tolist() == [0, 4, 1] and feed.last.tolist() == [0, 1, 6]
    assert feed.taken.tolist() == [0, 4, 1, 3] and feed.counts.tolist() == [1, 1, 5, 2]
    assert feed.spans == [
        Span(0, 1, 0, False, 9),
        Span(1, 2, 4, False, 7),
        Span(2, 7, 1, True, 5),
        Span(7, 9, 3, True, 18),
    ]


def test_more_rows_than_budget_take_turns() -> None:
    rows = rows_of([(LIVE, 3, 2)] * 5)
    fed = [compose(rows, budget=2, turn=turn, call_cost=192).taken.tolist() for turn in range(5)]
    assert sorted(sum(fed, [])) == sorted([0, 1, 2, 3, 4] * 2)


live_rows = st.tuples(st.just(LIVE), st.integers(1, POSITIONS), st.integers(0, POSITIONS)).map(
    lambda x: (x[0], x[1], min(x[2], x[1] - 1))
)


def read(span: Span, feed: Feed) -> list[tuple[int, int]]:
    """Row of each token and the keys that are read for it."""
    tokens = range(span.end - span.begin)
    return [(span.row if span.one_row else span.row + i, span.length) for i in tokens]


@given(state=st.lists(live_rows, min_size=1, max_size=20), budget=st.integers(1, 90), turn=st.integers(0, 9))
def test_every_token_is_fed_in_order_and_sees_all_before_it(
    state: list[tuple[int, int, int]], budget: int, turn: int
) -> None:
    rows = rows_of(state)
    feed = compose(rows, budget=budget, turn=turn, call_cost=192)
    missing = rows.known - rows.filled
    assert len(feed.ids) == min(budget, max(int(missing.sum()), 1)) or len(feed.taken) == budget
    np.testing.assert_array_equal(feed.ids, 100 * feed.rows + feed.positions)
    for row, count in zip(feed.taken, feed.counts, strict=True):
        assert 1 <= count <= missing[row]
        want = rows.filled[row] + np.arange(count)
        np.testing.assert_array_equal(feed.positions[feed.rows == row], want)
        assert (row in feed.sampled) == (count == missing[row])
    np.testing.assert_array_equal(feed.rows[feed.last], feed.sampled)
    np.testing.assert_array_equal(feed.positions[feed.last], rows.known[feed.sampled] - 1)
    seen = [pair for span in feed.spans for pair in read(span, feed)]
    assert [row for row, _ in seen] == feed.rows.tolist()
    assert all(length > position for (_, length), position in zip(seen, feed.positions, strict=True))
