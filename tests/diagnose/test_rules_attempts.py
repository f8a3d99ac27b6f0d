"""Rules about rewards, limits, prompts and tools, each on episodes by hand."""

from dataclasses import replace
from typing import Any

import pytest

from agentrl.diagnose.ranking import diagnose
from agentrl.environment import Observation
from agentrl.episode import Episode, Failure, as_ids
from agentrl.message import Text
from tests.diagnose.making import attempt, changed, failed, first, looked_up, names, sound

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


# ------------------------------------------------------------------------ leak


def test_a_prompt_with_the_answer() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        city = attempt(name, number, right=True).turns[1].action.text
        return attempt(name, number, task=f"Where does person {number} live ({city})?", **given)

    found = first(sound(make))
    assert found.name == "leaking-prompt" and found.severity == 1
    assert "right after" in found.evidence[0] or "from the end" in found.evidence[0]


def test_an_answer_in_the_tokens_of_the_system_text() -> None:
    """The task's text does not say it; the prompt's tokens do."""

    def make(name: str, number: int, **given: Any) -> Episode:
        episode = attempt(name, number, **given)
        (context,) = episode.contexts
        prompt = replace(context.segments[0], ids=as_ids([1, 60 + number % 10, 3, 10 + number % 40, 4]))
        return replace(episode, contexts=(replace(context, segments=(prompt, *context.segments[1:])),))

    found = first(sound(make))
    assert found.name == "leaking-prompt" and "right after 'token 1'" in found.evidence[0]


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


@pytest.mark.parametrize("text", ["saved", "test_{} FAILED: expected {}"])
def test_a_tool_that_does_its_work_is_none(text: str) -> None:
    """It may always say the same, or always speak of what is wrong with what it was given."""

    def make(name: str, number: int, **given: Any) -> Episode:
        episode = attempt(name, number, **given)
        said = text.format(number, number)
        return replace(episode, turns=(looked_up(f"person {number}", said), episode.turns[1]))

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
