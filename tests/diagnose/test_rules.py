"""Each rule on numbers by hand: what it sees, what it does not, and whom it puts first."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.diagnose.evidence import Evidence, Play
from agentrl.diagnose.figures import figures
from agentrl.diagnose.finding import Finding
from agentrl.diagnose.ranking import diagnose, rules
from agentrl.diagnose.report import lines
from agentrl.ending import Ending
from agentrl.environment import Observation
from agentrl.episode import Episode, Failure, Segment, as_ids
from agentrl.message import Action, Text
from tests.diagnose.making import attempt, changed, first, looked_up, names, of_plays, sound


def test_a_sound_run_is_not_accused() -> None:
    run = sound()
    assert diagnose(run) == []
    (head, *rest) = lines("x", [], figures(run))
    assert head == "x: nothing wrong found in 10 steps."
    assert "success first 0.208" in rest[0] and "zero variance share 0%" in " ".join(rest)


@given(
    moved=st.floats(0.05, 1.5),
    right=st.floats(0.2, 1),
    entropy=st.floats(0.05, 2),
    clip=st.floats(0, 0.3),
    norm=st.floats(0, 100),
    mismatch=st.floats(0, 1e-4),
    flat=st.integers(0, 3),
)
def test_what_is_usual_raises_no_alarm(
    moved: float, right: float, entropy: float, clip: float, norm: float, mismatch: float, flat: int
) -> None:
    usual = changed(
        sound(),
        moved=lambda s: moved,
        moved_right=lambda s: right,
        entropy=lambda s: entropy,
        clip_share=lambda s: clip,
        grad_norm=lambda s: norm,
        mismatch_mean=lambda s: mismatch,
        zero_variance_groups=lambda s: flat,
    )
    assert names(usual) == []


def failed(name: str, number: int, **given: Any) -> Episode:
    """An attempt that comes to nothing."""
    return attempt(name, number, **(given | {"right": False}))


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


# --------------------------------------------------------------------- rewards


def rewarded(value: float | None) -> Any:
    def make(*more: Any, **given: Any) -> Episode:
        episode = attempt(*more, **given)
        reward = float(int(episode.task_id[5:]) % 7) if value is None else value
        return replace(episode, reward=reward, correct=None)

    return make


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "every attempt earns 0"),
        (0.5, "every attempt earns 0.5, whatever"),
        (None, "depends on the task"),
    ],
)
def test_constant_rewards(value: float | None, words: str) -> None:
    run = changed(sound(rewarded(value)), zero_variance_groups=lambda s: 4, skipped=lambda s: True)
    found = first(run)
    assert found.name == "constant-reward" and words in found.sentence and found.severity == 1
    assert found.evidence[0] == "100% of 40 groups have zero variance"


def test_a_constant_reward_beside_what_is_correct_is_proof() -> None:
    def make(*more: Any, **given: Any) -> Episode:
        return replace(attempt(*more, **given), reward=1.0)

    found = first(sound(make))
    assert found.proof and "some attempts are correct and others are not" in found.evidence[1]


def test_rewards_that_the_recipe_loses() -> None:
    found = first(changed(sound(), zero_variance_groups=lambda s: 4))
    assert found.name == "constant-reward" and "where it is used" in found.sentence


def test_a_solved_task_is_no_constant_reward() -> None:
    def make(*more: Any, **given: Any) -> Episode:
        return attempt(*more, **(given | {"right": True}))

    assert names(changed(sound(make), zero_variance_groups=lambda s: 4, skipped=lambda s: True)) == []


def test_an_answer_that_is_always_right_whatever_it_is() -> None:
    def make(*more: Any, **given: Any) -> Episode:
        return replace(attempt(*more, **given), reward=1.0, correct=True)

    assert names(changed(sound(make), zero_variance_groups=lambda s: 4)) == ["constant-reward"]


def test_a_reward_against_what_is_correct() -> None:
    def make(*more: Any, **given: Any) -> Episode:
        episode = attempt(*more, **given)
        return replace(episode, reward=-episode.reward)

    assert first(sound(make)).name == "reward-contradicts"


# ------------------------------------------------------------------ truncation


def cut(share: int) -> Any:
    def make(name: str, number: int, **given: Any) -> Episode:
        short = int(name.rpartition("/")[2]) < share
        episode = failed(name, number, **given)
        return replace(episode, finish="max_turns" if short else "terminated")

    return make


def test_truncation_before_anything_is_earned() -> None:
    run = sound(cut(7))
    found = diagnose(run)
    assert [f.name for f in found] == ["truncation", "constant-reward"]
    assert found[0].severity == 7 / 8 and "the limit of turns" in found[0].sentence


def test_a_limit_that_somebody_has_set_counts_more() -> None:
    run = sound(cut(1))
    assert names(run) == ["constant-reward"]
    config = dict(run.config) | {"rollout": {"max_turns": 2}}
    assert names(replace(run, config=config)) == ["truncation", "constant-reward"]


def test_episodes_that_a_limit_ends_beside_others_that_succeed_are_no_truncation() -> None:
    def make(*more: Any, **given: Any) -> Episode:
        episode = attempt(*more, **given)
        return episode if episode.correct else replace(episode, finish="truncated")

    assert names(sound(make)) == []


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


# ------------------------------------------------------------------------ leak


def test_a_prompt_with_the_answer() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        city = attempt(name, number, right=True).turns[1].action.text
        return attempt(name, number, task=f"Where does person {number} live ({city})?", **given)

    found = first(sound(make))
    assert found.name == "leaking-prompt" and found.severity == 1
    assert "right after" in found.evidence[0] or "from the end" in found.evidence[0]


def test_an_answer_among_others_is_no_leak() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        shown = [attempt(name, n, right=True).turns[1].action.text for n in range(number, number + 4)]
        order = shown[number * 7 % 4 :] + shown[: number * 7 % 4]
        return attempt(name, number, task=f"Where does person {number} live: {', '.join(order)}?", **given)

    assert names(sound(make)) == []


@pytest.mark.parametrize(("text", "leaks"), [("Say {}.", False), ("What is it? Answer: {}", True)])
def test_without_anything_to_look_up_only_a_labelled_answer_is_a_leak(text: str, leaks: bool) -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        episode = attempt(name, number, task="?", **given)
        city = attempt(name, number, right=True).turns[1].action.text
        (context,) = episode.contexts
        one = replace(
            context, segments=(context.segments[0], *(replace(s, turn=0) for s in context.segments[3:]))
        )
        last = replace(episode.turns[1], index=0)
        shown = Observation(parts=(Text(text.format(city)),))
        return replace(episode, turns=(last,), contexts=(one,), first=shown)

    assert names(sound(make)) == ["leaking-prompt"] * leaks


# ----------------------------------------------------------------------- tools


def answering(text: str, *, ok: bool) -> Any:
    def make(name: str, number: int, **given: Any) -> Episode:
        episode = failed(name, number, **given)
        return replace(episode, turns=(looked_up(f"person {number}", text, ok=ok), episode.turns[1]))

    return make


@pytest.mark.parametrize(
    ("text", "ok", "words"),
    [
        ("no route to host", False, "320 of 320 calls end with an error"),
        ("internal error 500", True, "320 of 320 results speak of an error"),
        ("", True, "320 calls gave an empty answer"),
    ],
)
def test_a_tool_that_always_fails(text: str, ok: bool, words: str) -> None:
    found = diagnose(sound(answering(text, ok=ok)))
    assert [f.name for f in found] == ["failing-tool", "constant-reward"]
    assert words in found[0].sentence and "'city'" in found[0].sentence


def test_a_tool_that_always_says_saved_is_none() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        episode = attempt(name, number, **given)
        return replace(episode, turns=(looked_up(f"person {number}", "saved"), episode.turns[1]))

    assert names(sound(make)) == []


def test_failures() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        episode = attempt(name, number, **given)
        lost = Failure(kind="sandbox", message="the sandbox is gone", turn=0)
        return replace(episode, finish="failed", failure=lost) if name.endswith(("/1", "/2")) else episode

    found = first(changed(sound(make), failure_share=lambda s: 0.25))
    assert found.name == "failures" and found.severity == 0.25
    assert "80 of 80 such messages: the sandbox is gone" in found.evidence


def test_failures_where_little_is_earned() -> None:
    run = changed(sound(), failure_share_low=lambda s: 0.3, failure_share_high=lambda s: 0.0)
    assert names(run) == ["failures-hide-losses"]


# ---------------------------------------------------------------------- acting


def test_calls_that_cannot_be_read() -> None:
    def make(*more: Any, **given: Any) -> Episode:
        episode = failed(*more, **given)
        bad = replace(episode.turns[0], action=Action(malformed=("no closing tag",)), calls=())
        return replace(episode, turns=(bad, replace(bad, index=1)))

    found = names(sound(make))
    assert found[0] == "unreadable-calls" and set(found) > {"constant-reward"}


def test_attempts_that_are_copies() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        return attempt(name, number, right=False)

    found = first(sound(make))
    assert found.name == "duplicate-attempts" and "one seed" in found.sentence


def test_the_same_action_again_and_again() -> None:
    def make(*more: Any, **given: Any) -> Episode:
        episode = attempt(*more, **given)
        first_turn, last = episode.turns
        again = (first_turn, replace(first_turn, index=1), replace(first_turn, index=2))
        (context,) = episode.contexts
        more_ids = [replace(s, turn=t) for t in (1, 2) for s in context.segments[1:3]]
        longer = replace(
            context, segments=(*context.segments[:3], *more_ids, replace(context.segments[3], turn=3))
        )
        return replace(episode, turns=(*again, replace(last, index=3)), contexts=(longer,))

    assert names(sound(make)) == ["repeated-actions"]


def test_entropy_that_collapses_before_success() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        late = int(name.partition("-")[0]) > 4
        return attempt(name, number, **(given | {"right": given["right"] and not late}))

    run = changed(sound(make), entropy=lambda s: 0.5 if s <= 4 else 1e-4)
    assert "entropy-collapse" in names(run)
    assert names(changed(sound(), entropy=lambda s: 0.5 if s <= 4 else 1e-4)) == []


# --------------------------------------------------------------------- outcome


def test_success_that_falls() -> None:
    plays = [replace(p, step=11 - p.step) for p in sound().plays]
    assert names(of_plays(sorted(plays, key=lambda p: p.step))) == ["falling-success"]


def test_a_reward_that_pays_length() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        step, place = int(name.partition("-")[0]), int(name.rpartition("/")[2])
        episode = attempt(name, number, **given)
        (context,) = episode.contexts
        longer = replace(context.segments[0], ids=as_ids([9] * (step * 5 + place)))
        extended = replace(context, segments=(context.segments[0], longer, *context.segments[1:]))
        return replace(episode, contexts=(extended,), reward=float(step + place), correct=None)

    assert names(sound(make)) == []  # the reward is all there is, and it rises
    wrong = [
        replace(p, episodes=tuple(replace(e, correct=False) for e in p.episodes)) for p in sound(make).plays
    ]
    assert names(of_plays(wrong)) == ["reward-pays-length"]


def test_prompts_that_change_in_the_middle() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        episode = attempt(name, number, **given)
        (context,) = episode.contexts
        head = [1, 2, 3] if int(name.partition("-")[0]) < 6 else [8, 3]
        prompt = replace(context.segments[0], ids=as_ids([*head, 10 + number % 40, 4]))
        return replace(episode, contexts=(replace(context, segments=(prompt, *context.segments[1:])),))

    found = first(sound(make))
    assert (found.name, found.since) == ("template-drift", 6)


# --------------------------------------------------------------------- ranking


def finding(name: str, severity: float, **more: Any) -> Finding:
    return Finding(name=name, sentence=name, evidence=(), remedy="", severity=severity, **more)


def ranked(*found: Finding) -> list[str]:
    return [f.name for f in diagnose(sound(), [lambda _: found])]


def test_causes_stand_before_what_follows_from_them() -> None:
    small, large = finding("cause", 0.3), finding("effect", 1.0, follows_from=frozenset({"cause"}))
    assert ranked(large, small) == ["cause", "effect"]
    assert ranked(large, replace(small, since=5)) == ["effect", "cause"], "it began later"
    assert ranked(large, replace(small, severity=0.18)) == ["effect"], "too little to be a cause, or an alarm"


def test_the_larger_share_and_proof_stand_first() -> None:
    assert ranked(finding("a", 0.5), finding("b", 0.6)) == ["b", "a"]
    assert ranked(finding("a", 0.5, proof=True), finding("b", 0.6)) == ["a", "b"]
    assert ranked(finding("a", 0.5), finding("a", 0.7)) == ["a"]


def test_all_rules_bear_a_run_that_recorded_nothing() -> None:
    bare = Evidence(config={}, steps=[{"step": 1, "steps": 1}], plays=[Play(step=1, episodes=())])
    assert len(rules()) >= 20 and diagnose(bare) == []
    assert all(v is None or v >= 0 for v in figures(bare).values())
    assert diagnose(replace(bare, steps=[], attempts=[], plays=[])) == []
