"""The `engine` benchmark, for real on a small load."""

from __future__ import annotations

import numpy as np

from agentrl.bench.speed import engine as speed
from agentrl.bench.speed.load import Load
from agentrl.progress import SilentProgress

SMALL = Load(groups=2, group_size=2, turns=2, system=8, completion=4.0, longest=12, observation=3)


def test_every_way_samples_the_whole_load() -> None:
    claims = {c.name: c for c in speed.engine(SilentProgress(), runs=1, sizes=("0.2M",), load=SMALL)}
    assert list(claims) == [
        "engine.0.2M.generate",
        "engine.0.2M.continuous_batching",
        "engine.0.2M.a_bare_loop",
        "engine.0.2M.its_fast_mode",
    ]
    for claim in claims.values():
        assert claim.ratio == claim.runs[0] / claim.peer.runs[0] > 0
        assert claim.to_json()["held"] == (claim.ratio >= claim.wanted.value)


def test_the_load_is_shared_log_normal_and_the_same_every_time() -> None:
    load = Load()
    prompts, lengths = load.prompts(), load.lengths()
    assert lengths.shape == (64, 3) and 1 <= lengths.min() and lengths.max() <= load.longest
    assert 24 < np.median(lengths) < 42 and lengths.mean() > np.median(lengths)
    assert all(np.array_equal(p[: load.system], prompts[0][: load.system]) for p in prompts)
    assert np.array_equal(prompts[0], prompts[3]) and not np.array_equal(prompts[0], prompts[4])
    np.testing.assert_array_equal(lengths, Load().lengths())
    assert max(len(p) for p in prompts) + lengths.sum(1).max() + 3 * load.observation <= load.context
