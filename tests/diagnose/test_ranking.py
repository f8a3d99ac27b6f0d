"""What is said first, and that nothing is said of a sound run."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentrl.diagnose.evidence import Evidence, Play
from agentrl.diagnose.figures import figures
from agentrl.diagnose.finding import Finding
from agentrl.diagnose.ranking import diagnose, rules
from agentrl.diagnose.report import lines
from tests.diagnose.making import changed, names, sound


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
