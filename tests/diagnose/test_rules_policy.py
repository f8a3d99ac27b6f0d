"""Rules about what the policy does and what comes of it, each on episodes by hand."""

from dataclasses import replace
from typing import Any

from agentrl.episode import Episode, as_ids
from agentrl.message import Action
from tests.diagnose.making import attempt, changed, failed, first, looked_up, names, of_plays, sound

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


def test_steps_that_lead_somewhere_are_no_repetition() -> None:
    """The same action, but what is heard differs, as where one walks north twice."""

    def make(*more: Any, **given: Any) -> Episode:
        episode = attempt(*more, **given)
        walked = [replace(looked_up("north", f"at {n}"), index=n) for n in range(4)]
        last = replace(episode.turns[1], index=4)
        (context,) = episode.contexts
        prompt, said_first, heard_first, said_last = context.segments
        steps = [replace(s, turn=n) for n in range(4) for s in (said_first, heard_first)]
        longer = replace(context, segments=(prompt, *steps, replace(said_last, turn=4)))
        return replace(episode, turns=(*walked, last), contexts=(longer,))

    assert names(sound(make)) == []


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


def test_a_rare_kind_of_task_is_no_other_template() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        episode = attempt(name, number, **given)
        (context,) = episode.contexts
        words = [8, 9] if name.startswith("9-2") else [1, 2, 3]
        prompt = replace(context.segments[0], ids=as_ids([*words, 10 + number % 40, 4]))
        return replace(episode, contexts=(replace(context, segments=(prompt, *context.segments[1:])),))

    thinned = [p for p in sound(make).plays if p.episodes[0].group_id.endswith("-2")]
    assert "template-drift" not in names(of_plays(thinned))


def test_prompts_that_change_in_the_middle() -> None:
    def make(name: str, number: int, **given: Any) -> Episode:
        episode = attempt(name, number, **given)
        (context,) = episode.contexts
        head = [1, 2, 3] if int(name.partition("-")[0]) < 6 else [8, 3]
        prompt = replace(context.segments[0], ids=as_ids([*head, 10 + number % 40, 4]))
        return replace(episode, contexts=(replace(context, segments=(prompt, *context.segments[1:])),))

    found = first(sound(make))
    assert (found.name, found.since) == ("template-drift", 6)
