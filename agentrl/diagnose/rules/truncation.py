"""Limits that end attempts before they can earn anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from agentrl.diagnose.evidence import Evidence, Play, mean, onset
from agentrl.diagnose.finding import Finding
from agentrl.diagnose.rules.updates import rises
from agentrl.episode import Episode

LOST = 0.3
"""Share of attempts that a limit ended in groups that cannot teach; where groups differ, limits teach too."""
SET = 0.1
"""The same where somebody has set the limit, and no attempt of the whole run has earned anything."""
REMEDY = {
    "max_tokens_per_turn": "raise rollout.max_tokens_per_turn",
    "max_turns": "raise rollout.max_turns",
    "max_context": "raise rollout.max_context",
    "truncated": "raise the environment's own limit (max_turns of the class)",
}


def truncation(evidence: Evidence) -> Iterator[Finding]:
    """An attempt that is cut off says little about what it would have come to."""
    plays = [p for p in evidence.plays if len(p.episodes) > 1]
    early = plays[: len(plays) // 3]  # a policy soon stops what is always cut off, whatever it is good for
    severity, cut = max(cut_off(plays), cut_off(early), key=lambda found: found[0])
    if severity < SET or rises(evidence):
        return
    (name, count), *_ = Counter(limit_of(e) for e in cut).most_common()
    hopeless = evidence.hopeless and evidence.config.get("rollout", {}).get(name) is not None
    if severity < LOST and not hopeless:
        return
    lengths = [t for e in cut for t in own_lengths(e)]
    yield Finding(
        name="truncation",
        sentence=f"Truncation: attempts are cut off by {words(name)} before they can earn anything.",
        evidence=(
            f"{severity:.0%} of the attempts were cut off in groups where nobody earned more than the others",
            f"the commonest limit: {name} ({count} of {len(cut)})",
            f"turns of up to {max(lengths, default=0)} tokens, {mean(lengths):.0f} in the mean",
        ),
        remedy=f"{REMEDY[name]}, or shorten what has to be said",
        severity=max(severity, 0.5) if hopeless else severity,
        since=onset((p.step, is_lost(p)) for p in plays),
        episode=cut[0].id,
        follows_from=frozenset(
            {
                "failing-tool",
                "learning-rate-too-high",
                "wrong-sign",
                "wrong-mask",
                "stale-weights",
                "template-drift",
                "reward-contradicts",
                "entropy-collapse",
            }
        ),
    )


def cut_off(plays: Sequence[Play]) -> tuple[float, list[Episode]]:
    """Give the attempts that a limit ended in groups that cannot teach, and their share of all."""
    cut = [e for p in plays if is_lost(p) for e in p.episodes if limit_of(e)]
    return len(cut) / max(sum(len(p.episodes) for p in plays), 1), cut


def is_lost(play: Play) -> bool:
    """Whether all attempts of a group earned the same, and none of those that ran to their end was right."""
    members = [e for e in play.episodes if e.failure is None]
    return len({e.reward for e in members}) == 1 and not any(e.correct or e.reward > 0 for e in members)


def limit_of(episode: Episode) -> str:
    """Name the limit that ended an episode, or one of its turns; '' for none."""
    if any(t.cut_off for t in episode.turns):
        return "max_tokens_per_turn"
    return episode.finish if episode.truncated else ""


def words(limit: str) -> str:
    """Name a limit for a person."""
    return {
        "max_tokens_per_turn": "the limit of tokens per turn",
        "max_turns": "the limit of turns",
        "max_context": "the length of the context",
        "truncated": "the environment's own limit",
    }[limit]


def own_lengths(episode: Episode) -> list[int]:
    """Give how many tokens the policy sampled in each turn."""
    return [len(s) for c in episode.contexts for s in c.segments if s.sampled]
