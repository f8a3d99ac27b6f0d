"""Faulty environments fail the check that is meant for them; sound ones fail none."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentrl.check import CHECKS, CheckResult, Report, check_environment
from agentrl.check.lab import Lab
from agentrl.check.run import Plan
from agentrl.errors import ConfigError
from tests.check import faulty_judges, faulty_pay, faulty_running, sound
from tests.check.faulty import FAULTS
from tests.check.sound import SOUND

HERE = Path(__file__).parent
SECONDS = 2.0
LATER = faulty_pay.ExpertBreaksLater
"""Its check finds it alone; where all are made, another one names it first."""
ONE_OF_EACH = list({check: kind for kind, (check, _) in FAULTS.items() if kind is not LATER}.values())
"""A faulty environment for every check."""


def named(kind: type) -> str:
    return f"{inspect.getsourcefile(kind)}:{kind.__name__}"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_fault_is_found_and_named(kind: type, lab: Lab) -> None:
    check, cue = FAULTS[kind]
    report = check_environment(named(kind), only=[check], seconds=SECONDS, lab=lab)
    assert not report.passed
    assert cue in report.checks[0].detail


@pytest.mark.parametrize("kind", SOUND, ids=lambda kind: kind.__name__)
def test_sound_environment_raises_no_alarm(kind: type, lab: Lab) -> None:
    report = check_environment(named(kind), seeds=4, lab=lab)
    assert [(c.name, c.detail) for c in report.failed] == []
    assert [c.name for c in report.checks] == list(CHECKS)


@pytest.mark.long
@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.__name__)
def test_fault_is_found_among_all_checks(kind: type, lab: Lab) -> None:
    report = check_environment(named(kind), seconds=SECONDS, lab=lab)
    assert FAULTS[kind][0] in {c.name for c in report.failed}


def test_every_check_has_a_faulty_environment() -> None:
    assert {check for check, _ in FAULTS.values()} == set(CHECKS)


def test_a_class_is_found_by_its_file(lab: Lab) -> None:
    report = check_environment(SOUND[0], only=["loads"], lab=lab)
    assert report.passed and report.env.endswith(SOUND[0].__name__)


def test_settings_reach_the_environment(lab: Lab) -> None:
    plan = Plan(name=f"{HERE}/sound.py:GuessNumber", settings={"high": 9}, seconds=9.0, seeds=2, seed=0)
    answer = lab.ask("", plan.request("trace"))
    assert "1..9." in answer["data"][0]["lines"][0]


def test_report_is_plain_data() -> None:
    report = check_environment(f"{HERE}/sound.py:Reverse", only=["loads"])
    data = json.loads(json.dumps(report.to_json()))
    assert data["passed"] is True
    assert [set(c) for c in data["checks"]] == [{"name", "passed", "detail"}]


def test_a_warning_stands_beside_the_verdict() -> None:
    check = CheckResult(name="seed-variety", passed=True, detail="9 different tasks; warning: few")
    report = Report(env="few", checks=(check, replace(check, passed=False)))
    assert report.warnings == ("seed-variety: few",) and report.to_json()["warnings"] == list(report.warnings)


def test_a_docstring_of_one_word_is_a_warning(lab: Lab) -> None:
    report = check_environment(named(sound.Terse), only=["tool-schemas"], lab=lab)
    assert report.passed and report.warnings[0].startswith("tool-schemas: one word says little of look")


def test_an_expert_that_raises_is_blamed_alone(lab: Lab) -> None:
    report = check_environment(named(faulty_pay.ExpertBreaks), lab=lab)
    assert [c.name for c in report.failed] == ["expert-solves"]


def test_an_expert_that_raises_in_any_check_is_told(lab: Lab) -> None:
    report = check_environment(named(faulty_pay.ExpertBreaksLater), lab=lab)
    assert "raised KeyError" in {c.name: c.detail for c in report.failed}["expert-solves"]


def test_after_two_hangs_the_rest_is_not_tried(lab: Lab) -> None:
    report = check_environment(named(faulty_running.Hangs), seconds=0.5, lab=lab)
    details = {c.name: c.detail for c in report.failed}
    assert "price(" in details["responds"]
    assert details["side-effects"].startswith("not run: mend 'responds' first")


def test_one_fault_at_the_root_is_told_once(lab: Lab) -> None:
    report = check_environment(named(faulty_running.BrokenImport), lab=lab)
    first, *rest = report.checks
    assert "shop.db" in first.detail and len(rest) == len(CHECKS) - 1
    assert {(c.passed, c.detail) for c in rest} == {(False, "not run: mend 'loads' first")}


def test_a_tool_that_replaces_a_method_is_named_at_once(lab: Lab) -> None:
    report = check_environment(named(faulty_judges.ClosingTool), lab=lab)
    assert report.checks[0].name == "loads" and "@tool is named 'close'" in report.checks[0].detail


def test_unknown_names_are_refused_with_the_nearest(lab: Lab) -> None:
    with pytest.raises(ConfigError, match="did you mean 'leaks'"):
        check_environment(SOUND[0], only=["leak"], lab=lab)
    with pytest.raises(ConfigError, match="'Reverse'"):
        check_environment(f"{HERE}/sound.py:Revers", lab=lab)


def test_a_local_class_is_refused_with_the_remedy() -> None:
    class Local:
        pass

    with pytest.raises(ConfigError, match="top of a file"):
        check_environment(Local)


def test_checker_process_exits_although_the_environment_leaks(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "from agentrl.check import check_environment\n"
        f"report = check_environment({named(faulty_running.LeaksThread)!r}, only=['leaks'])\n"
        "print(report.passed)\n"
    )
    paths = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=paths)
    assert done.stdout == "False\n"
