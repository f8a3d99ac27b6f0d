"""Rules about updates, each on numbers by hand: what it sees, and what it does not."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from agentrl.diagnose.evidence import Evidence
from agentrl.ending import Ending
from agentrl.episode import Episode, Segment
from tests.diagnose.making import attempt, changed, first, names, sound

# ------------------------------------------------------------------------ sign


def test_the_sign_of_advantages() -> None:
    found = first(changed(sound(), direction=lambda s: -0.98))
    assert found.name == "wrong-sign" and found.severity == 1 and found.proof
    assert found.evidence[0].startswith("correlation of advantage and reward -0.98 over 10 steps")


def test_advantages_without_relation() -> None:
    assert names(changed(sound(), direction=lambda s: 0.1 * (-1) ** s)) == ["unrelated-advantage"]
    assert names(changed(sound(), direction=lambda s: 0.5 * (-1) ** s + 0.5)) == []


def test_the_sign_of_updates_with_the_right_advantages() -> None:
    found = first(changed(sound(), moved_right=lambda s: -0.9))
    assert found.name == "wrong-sign" and "updates have the wrong sign" in found.sentence
    assert names(changed(sound(), moved_right=lambda s: -0.9 if s == 4 else 0.6)) == []
    assert names(changed(sound(), moved_right=lambda s: 0.3 * (-1) ** s)) == []
    one = changed(sound(), moved_right=lambda s: -0.95 if s == 1 else None)
    assert names(one) == ["wrong-sign"]
    assert names(changed(one, moved_right=lambda s: -0.4 if s == 1 else None)) == []


# ------------------------------------------------------------------------ mask


def test_foreign_and_masked_tokens() -> None:
    foreign = first(changed(sound(), foreign_share=lambda s: 0.4 * (s > 5)))
    assert (foreign.name, foreign.severity, foreign.since) == ("wrong-mask", 0.5, 6)
    masked = first(changed(sound(), masked_share=lambda s: 0.8))
    assert masked.name == "wrong-mask" and masked.severity == pytest.approx(0.8)


def test_a_recipe_may_mask_truncated_episodes() -> None:
    run = changed(sound(), masked_share=lambda s: 0.4)
    config = dict(run.config) | {"algorithm_settings": {"truncation": "mask"}}
    assert names(replace(run, config=config)) == []
    assert names(run) == ["wrong-mask"]


def relabelled(wrong: str, right: str) -> Any:
    def make(*more: Any, **given: Any) -> Episode:
        episode = attempt(*more, **given)
        (context,) = episode.contexts
        segments = [
            Segment(kind=wrong, ids=s.ids, turn=s.turn) if s.kind == right else s  # type: ignore[arg-type]
            for s in context.segments
        ]
        return replace(episode, contexts=(replace(context, segments=tuple(segments)),))

    return make


@pytest.mark.parametrize(("wrong", "right"), [("action", "observation"), ("observation", "action")])
def test_segments_of_the_wrong_kind(wrong: str, right: str) -> None:
    found = first(sound(relabelled(wrong, right)))
    assert found.name == "wrong-mask" and found.episode == "1-0/0"
    assert "as if" in found.sentence


# -------------------------------------------------------------------- mismatch


def test_stale_weights_part_from_the_trainer_as_the_updates_move_it() -> None:
    """Ten updates of 0.1 nats: the engine, which keeps the first weights, is 0.1 farther away after each."""
    run = changed(sound(), mismatch_mean=lambda s: 0.1 * (s - 1), mismatch_first=lambda s: 0.1 * (s - 1))
    found = first(run)
    assert (found.name, found.since, found.severity) == ("stale-weights", 2, 0.9)


def test_other_tokens_are_apart_before_any_update() -> None:
    run = changed(sound(), mismatch_mean=lambda s: 0.2, mismatch_first=lambda s: 0.0)
    found = first(run)
    assert (found.name, found.since, found.severity) == ("template-drift", 1, 1.0)
    assert any("first turns only 0" in line for line in found.evidence)


def test_other_tokens_in_the_middle_are_farther_apart_than_updates_explain() -> None:
    run = changed(sound(), mismatch_mean=lambda s: 4.0 if s > 6 else 1e-7)
    assert (first(run).name, first(run).since) == ("template-drift", 7)


def test_bfloat16_rounds() -> None:
    run = changed(sound(), mismatch_mean=lambda s: 0.02)
    assert names(run) == ["template-drift"]
    assert names(replace(run, config={"update": {"precision": "bf16"}})) == []


def test_weights_that_never_arrive_are_old() -> None:
    assert names(changed(sound(), staleness=lambda s: s - 1.0))[0] == "stale-weights"
    assert names(changed(sound(), staleness=lambda s: min(2.0, s - 1))) == []


def ending(
    error: str, message: str, step: int = 1, facts: Mapping[str, float] = MappingProxyType({})
) -> Ending:
    return Ending(error=error, message=message, step=step, facts=facts)


def test_why_a_run_gave_up_is_read() -> None:
    started = replace(sound(), steps=[], attempts=[], plays=[])
    apart = {"mismatch_mean": 0.5, "mismatch_first": 0.001}
    for end, name in (
        (ending("WeightsDiffer", "the engine does not hold the weights"), "stale-weights"),
        (ending("WeightsDiffer", "differ in the log-probabilities", facts=apart), "template-drift"),
        (ending("NonFiniteError", "the loss is nan"), "learning-rate-too-high"),
        (ending("FailureBudgetSpent", "20 of the last 64 attempts failed"), "failures"),
        (ending("EngineError", "the engine is dead"), "stopped"),
    ):
        found = first(replace(started, ending=end))
        assert (
            found.name == name
            and any(end.message in line for line in found.evidence)
            or name == "template-drift"
        )
    later = replace(sound(), ending=ending("WeightsDiffer", "differ", 11, apart))
    assert (first(later).name, first(later).since) == ("stale-weights", 11)


# --------------------------------------------------------------------- updates


def without_progress(evidence: Evidence) -> Evidence:
    return changed(evidence, success=lambda s: 0.3)


def test_steps_that_are_too_large() -> None:
    run = changed(without_progress(sound()), moved=lambda s: 9.0)
    assert first(run).name == "learning-rate-too-high" and first(run).severity == 1
    assert names(changed(sound(), moved=lambda s: 9.0)) == [], "large steps that succeed are none too large"
    assert names(changed(without_progress(sound()), moved=lambda s: 9.0 if s == 5 else 0.1)) == []


def test_steps_that_are_too_small() -> None:
    run = changed(without_progress(sound()), moved=lambda s: 0.002)
    assert first(run).name == "learning-rate-too-low"
    assert names(changed(run, steps=lambda s: 1000)) == [], "a thousand such steps are enough"
    assert names(changed(run, success=lambda s: 0.9)) == [], "little is left to be changed"
    assert names(changed(sound(), moved=lambda s: 0.002)) == [], "it learns"
    slow = changed(run, success=lambda s: 0.2 + 0.03 * s, reward_mean=lambda s: 0.2 + 0.03 * s)
    assert "success rises slowly" in first(slow).sentence
