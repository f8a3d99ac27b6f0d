"""The `engine` benchmark, for real on a small load."""

from __future__ import annotations

import numpy as np

from agentrl.bench.speed import engine as speed
from agentrl.bench.speed.load import Load

SMALL = Load(groups=2, group_size=2, turns=2, system=8, completion=4.0, longest=12, observation=3)


def test_every_way_samples_the_whole_load() -> None:
    result = speed.engine(runs=1, sizes=("0.2M",), load=SMALL)
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == [
        "engine 0.2M against generate",
        "engine 0.2M against continuous batching",
        "engine 0.2M against a bare loop",
        "engine 0.2M against its fast mode",
    ]
    for row in rows.values():
        assert row["ratio"] == row["median"] / row["peer"]["median"] > 0
        assert row["held"] == (row["wanted"] is None or row["ratio"] >= row["wanted"])
    wanted = [row for row in rows.values() if row["wanted"]]
    assert result["name"] == "engine" and result["nearest"] in rows
    assert result["ratio"] in [row["ratio"] for row in wanted]
    assert result["held"] == all(row["held"] for row in wanted)


def test_the_load_is_shared_log_normal_and_the_same_every_time() -> None:
    load = Load()
    prompts, lengths = load.prompts(), load.lengths()
    assert lengths.shape == (64, 3) and 1 <= lengths.min() and lengths.max() <= load.longest
    assert 24 < np.median(lengths) < 42 and lengths.mean() > np.median(lengths)
    assert all(np.array_equal(p[: load.system], prompts[0][: load.system]) for p in prompts)
    assert np.array_equal(prompts[0], prompts[3]) and not np.array_equal(prompts[0], prompts[4])
    np.testing.assert_array_equal(lengths, Load().lengths())
    assert max(len(p) for p in prompts) + lengths.sum(1).max() + 3 * load.observation <= load.context
