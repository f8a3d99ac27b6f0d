"""Checks an environment: each check in a process of its own, under a deadline."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentrl.check.lab import Lab
from agentrl.check.report import CheckResult, Report
from agentrl.errors import ConfigError, unknown
from agentrl.reference import importable_name
from agentrl.registry import EnvSpec, resolve_env

CHECKS = (
    "loads",
    "responds",
    "closes",
    "return-types",
    "tool-schemas",
    "gymnasium",
    "determinism",
    "determinism-across-processes",
    "episode-isolation",
    "instance-isolation",
    "seed-variety",
    "task-source",
    "splits-disjoint",
    "levels",
    "task-order",
    "fork-equality",
    "fork-independence",
    "reward-range",
    "correct-against-reward",
    "judge-not-fooled",
    "wrong-answers",
    "constant-answer",
    "text-as-code",
    "ends",
    "step-after-end",
    "garbage-actions",
    "valid-random-actions",
    "event-loop",
    "observation-text",
    "control-tokens",
    "host-details",
    "prefix-preservation",
    "answer-in-prompt",
    "answer-given-away",
    "expert-solves",
    "close-under-hang",
    "cancellation",
    "leaks",
    "side-effects",
)
"""The names of all checks, in the order of the report."""
CAUSES = {
    "hash": "the order of a set or hash() decides: sort it",
    "clock": "the clock or calendar decides: draw it from the rng",
    "files": "the order of a folder's files decides: sort os.listdir",
    "folder": "the current folder decides: find files with Path(__file__).parent, or a setting",
    "host": "the name of the host or the user decides: leave it out",
}
ROOTS = ("loads",)
"""When one of these fails, the same fault would be told again by all that follow."""
PATIENCE = 2
"""After so many checks that hung, the rest is not tried."""
HASTE = 3.0
"""Seconds that one action may take once a check has hung: whoever waits has learnt the worst."""
CHANGING = ("task-order", "episode-isolation", "instance-isolation", "determinism")
EXPERTS = frozenset({"expert-solves"})
"""Checks of the expert, and those that show that an environment changes under it."""
OF_EXPERT = "expert-solves"
"""Answers for an expert that raised anywhere: the other checks pass then, having seen less."""
ALWAYS = frozenset({"close-under-hang", "closes"})
Watch = Callable[[CheckResult], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to ask the workers."""

    name: str
    settings: dict[str, Any]
    seconds: float
    seeds: int
    seed: int

    def request(self, check: str) -> dict[str, Any]:
        """Give the request for one check; the deadline ends what the check's own time limits cannot."""
        data = {"name": self.name, "settings": self.settings, "check": check}
        limits = {"seconds": self.seconds, "seeds": self.seeds, "seed": self.seed}
        return data | limits | {"deadline": 15 + 3 * self.seconds}


def check_environment(
    spec: EnvSpec | type | str,
    *,
    seeds: int = 8,
    seconds: float = 10.0,
    seed: int = 0,
    only: Collection[str] | None = None,
    lab: Lab | None = None,
    watch: Watch = lambda result: None,
) -> Report:
    """Try an environment in every way that training will, and report what to mend.

    Args:
        spec: What `resolve_env` gave, a name that it understands, or a class that can be imported.
        seeds: How many tasks most checks look at.
        seconds: How long one action may take before it counts as hung.
        seed: Which tasks they are.
        only: Names of checks; None for all.
        lab: Worker processes to use again; None for fresh ones.
        watch: Is told of each result as it comes.

    Raises:
        ConfigError: The environment cannot be found, or there is no check of a name in `only`.
    """
    chosen = list(CHECKS) if only is None else [_known(name) for name in only]
    target = _target(spec)
    try:
        settings = json.loads(json.dumps(dict(target.settings)))
    except TypeError as error:
        raise ConfigError(f"{target.name}: settings must be plain data to be checked: {error}") from error
    plan = Plan(name=target.name, settings=settings, seconds=seconds, seeds=seeds, seed=seed)
    with contextlib.nullcontext(lab) if lab is not None else Lab() as workers:
        results = []
        for result in _results(workers, plan, chosen):
            watch(result)
            results.append(result)
    return Report(env=target.name, checks=tuple(results))


def _known(name: str) -> str:
    if name not in CHECKS:
        raise ConfigError(unknown("check", name, CHECKS))
    return name


def _results(lab: Lab, plan: Plan, chosen: Collection[str]) -> Iterator[CheckResult]:
    hung, changing, broken = list[str](), list[str](), ""
    raised, told = "", False
    for name in (c for c in CHECKS if c in chosen):
        if broken:
            yield CheckResult(name=name, passed=False, detail=f"not run: mend {broken!r} first")
            continue
        if len(hung) >= PATIENCE and name not in ALWAYS:
            yield CheckResult(name=name, passed=False, detail=f"not run: mend {hung[0]!r} first, which hung")
            continue
        comparison = COMPARISONS.get(name)
        answer = comparison(lab, plan) if comparison else lab.ask("", plan.request(name))
        if answer.get("config"):
            yield CheckResult(name=name, passed=False, detail=answer["detail"])
            return
        if answer.get("hung"):
            hung.append(name)
            plan = replace(plan, seconds=min(plan.seconds, HASTE))
        elif not answer["passed"] and (name in ROOTS or (name == "responds" and answer.get("died"))):
            broken = name
        raised = raised or answer.get("expert", "")
        if name == OF_EXPERT:
            if answer["passed"] and raised:
                answer |= {"passed": False, "detail": f"in another check {raised}"}
            told = not answer["passed"]
        elif "expert" in answer:
            answer["passed"] = told or _is_to_come(OF_EXPERT, name, chosen)
        detail = answer["detail"]
        if not answer["passed"]:
            detail += _blame(name, changing)
            changing += [name] if name in CHANGING and " became " in detail else []
        yield CheckResult(name=name, passed=answer["passed"], detail=detail)


def _is_to_come(check: str, name: str, chosen: Collection[str]) -> bool:
    """Whether a check will still be run after the one of this name."""
    return check in chosen and CHECKS.index(check) > CHECKS.index(name)


def _blame(name: str, changing: Sequence[str]) -> str:
    """Say that an earlier finding may explain this one: the expert is not to blame for a changing world."""
    if name not in EXPERTS or not changing:
        return ""
    return f"; mend {changing[0]!r} first: the environment is not the same from episode to episode"


def _across_processes(lab: Lab, plan: Plan) -> dict[str, Any]:
    """Compare episodes of two processes that differ in what must not matter."""
    here = lab.ask("", plan.request("trace"))
    there = lab.ask(",".join(CAUSES), plan.request("trace"))
    if "data" not in here:
        return here
    if "data" not in there:
        causes = [c for c in CAUSES if "data" not in lab.ask(c, plan.request("trace"))]
        why = "; ".join(CAUSES[c] for c in causes) or "clock, folder, host or order of files matters"
        return there | {"passed": False, "detail": f"in another process: {there['detail']}; {why}"}
    found = _parting(here["data"], there["data"])
    if found is None:
        count = sum(len(e["lines"]) for e in here["data"])
        return {
            "passed": True,
            "detail": f"{count} observations are equal under another hash seed, clock, folder and host",
        }
    causes = [c for c in CAUSES if _parting(here["data"], lab.ask(c, plan.request("trace")).get("data", []))]
    again = _parting(here["data"], lab.ask("", plan.request("trace")).get("data", []))
    if again or not causes:
        why = "object addresses, the process, or unseeded generators decide: draw every choice from the rng"
    else:
        why = "; ".join(CAUSES[c] for c in causes)
    return {"passed": False, "detail": f"{found} in another process; {why}"}


def _task_order(lab: Lab, plan: Plan) -> dict[str, Any]:
    """Compare episodes of all levels and splits that two processes played in opposite orders."""
    up, down = (lab.ask("", plan.request(way)) for way in ("upwards", "downwards"))
    for answer in (up, down):
        if "data" not in answer:
            return answer
    back = {e["task"]: e for e in down["data"]}
    both = [e for e in up["data"] if e["task"] in back]
    found = _parting(both, [back[e["task"]] for e in both])
    if found is None:
        return {"passed": True, "detail": f"{len(both)} episodes and starts are the same in both orders"}
    mend = "keep nothing of other levels, splits or episodes in the class or module, such as a cache"
    return {
        "passed": False,
        "detail": f"{found} when other tasks, levels or splits were played first; {mend}",
    }


COMPARISONS = {"determinism-across-processes": _across_processes, "task-order": _task_order}
"""Checks that need two processes."""


def _parting(one: list[dict[str, Any]], two: list[dict[str, Any]]) -> str | None:
    from agentrl.check.wording import difference

    for first, second in zip(one, two, strict=False):
        found = difference(first["lines"], second["lines"])
        if found:
            return f"{first['task']}, {found}"
    return None


def _target(spec: EnvSpec | type | str) -> EnvSpec:
    """Find a name under which another process can import the environment."""
    if isinstance(spec, str):
        return resolve_env(spec)
    if isinstance(spec, type):
        return EnvSpec(name=importable_name(spec), kind=spec)
    return spec
