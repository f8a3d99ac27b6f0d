"""The wrong tokens are trained on, or the right ones are not."""

from __future__ import annotations

from collections.abc import Iterator

from agentrl.diagnose.evidence import Evidence, mean, share
from agentrl.diagnose.finding import Finding
from agentrl.episode import Context, Episode

FOREIGN = 0.005
"""Share of trained tokens that may come from elsewhere; a sound run has exactly none."""
MASKED = 0.05
"""Share of sampled tokens that may be without gradient in episodes that differ from their group."""
MOSTLY = 0.9
"""The same where the recipe masks truncated episodes on purpose."""
NAME = "wrong-mask"
REMEDY = (
    "train on the tokens that the policy sampled and on no others: segments of kind 'action', aligned so "
    "that position t predicts token t + 1; `agentrl train … --inspect` shows the mask token by token"
)


def foreign_tokens(evidence: Evidence) -> Iterator[Finding]:
    """A gradient on prompts or observations teaches to predict the environment, not to act."""
    found = evidence.series("foreign_share")
    hit = [(step, value) for step, value in found if value > FOREIGN]
    if not hit:
        return
    middle = mean(value for _, value in hit)
    yield Finding(
        name=NAME,
        sentence="The mask is wrong: tokens that the policy did not sample, such as observations or the "
        "prompt, are trained on as if it had.",
        evidence=(
            f"{middle:.0%} of the trained tokens have no log-probability from sampling (a sound run: none)",
            *lost(evidence),
        ),
        remedy=REMEDY,
        severity=len(hit) / len(found),
        proof=True,
        since=hit[0][0],
    )


def lost(evidence: Evidence) -> tuple[str, ...]:
    """Say how many of the policy's own tokens are left out."""
    value = mean(evidence.values("masked_share"))
    return (
        (f"{value:.0%} of the sampled tokens that could teach have no gradient",) if value > FOREIGN else ()
    )


def masked_tokens(evidence: Evidence) -> Iterator[Finding]:
    """In an episode that differs from its group every own token can learn; what is masked does not."""
    limit = MOSTLY if evidence.setting("truncation") == "mask" else MASKED
    found = evidence.series("masked_share")
    hit = [(step, value) for step, value in found if value > limit]
    if not hit or any(value > FOREIGN for value in evidence.values("foreign_share")):
        return
    middle = mean(value for _, value in hit)
    yield Finding(
        name=NAME,
        sentence="The mask is wrong, unless a part of yours leaves tokens out on purpose: tokens that the "
        "policy sampled, in attempts that differ from their group, get no gradient.",
        evidence=(f"{middle:.0%} of such tokens are masked or have advantage 0 (with our own parts: none)",),
        remedy=REMEDY,
        severity=middle * len(hit) / len(found),
        proof=True,  # with our own parts no sound run shows it
        since=hit[0][0],
    )


def mislabelled_segments(evidence: Evidence) -> Iterator[Finding]:
    """The tokens must say who said what: the environment in observations, the policy in actions."""
    wrong = [(step, e, why) for step, e in evidence.episodes if (why := mislabelled(e))]
    part = len(wrong) / max(len(evidence.episodes), 1)
    if part <= FOREIGN:
        return
    step, episode, why = wrong[0]
    yield Finding(
        name=NAME,
        sentence=f"The mask is wrong: {why}.",
        evidence=(f"so in {part:.0%} of {len(evidence.episodes)} episodes, first in {episode.id}",),
        remedy=REMEDY,
        severity=share(bool(mislabelled(e)) for _, e in evidence.episodes),
        proof=True,
        since=step,
        episode=episode.id,
    )


def mislabelled(episode: Episode) -> str:
    """Say what is wrong with the kinds of an episode's segments; '' where nothing is."""
    if episode.origin != "policy":
        return ""
    for turn in episode.turns:
        context = episode.contexts[turn.context] if turn.context < len(episode.contexts) else Context()
        kinds = {s.kind for s in context.segments if s.turn == turn.index and len(s)}
        if "action" not in kinds:
            return "what the policy said stands in the tokens as if somebody else had"
        goes_on = any(s.turn > turn.index for s in context.segments)
        if goes_on and turn.observation.parts and "observation" not in kinds:
            return "what the environment said stands in the tokens as if the policy had said it"
    return ""
