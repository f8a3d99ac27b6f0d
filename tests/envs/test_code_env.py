"""The code environment in play: sandbox, errors, answers, forks, ends."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from agentrl.adapter import Adapter
from agentrl.environment import StepResult
from agentrl.envs.code.env import CodeEnv, Live
from agentrl.envs.code.market import CROWDED, ITEMS, ONE_QUESTION
from agentrl.errors import ConfigError
from agentrl.message import Action, answer, call
from agentrl.registry import Worker
from tests.envs.playing import task_of, with_worker

SCAN = r"""
import gc, re
def regions():
    try:
        lines = open("/proc/self/maps").read().splitlines()
    except OSError:
        return
    for span, rights in (line.split()[:2] for line in lines):
        if rights.startswith("rw"):
            start, end = (int(x, 16) for x in span.split("-"))
            try:
                with open("/proc/self/mem", "rb", 0) as memory:
                    memory.seek(start)
                    yield memory.read(end - start)
            except OSError:
                pass
def scan(pattern):
    found = {m for m in gc.get_referents(*gc.get_objects()) if type(m) is str and re.fullmatch(pattern, m)}
    return sorted(found.union(m.decode() for r in regions() for m in re.findall(pattern.encode(), r)))
"""


def children() -> set[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {pid for task in tasks for pid in task.read_text().split()}


def live(env: Adapter) -> Live:
    held: Live = env._env._live
    return held


def facts(env: Adapter) -> dict[tuple[str, str], str]:
    problem = live(env).problem
    assert problem is not None
    return problem.facts


def run_codes(*codes: str, level: int = 0, position: int = 0, **settings: Any) -> list[StepResult]:
    async def main(worker: Worker) -> list[StepResult]:
        env = worker.new()
        await env.start(task_of("train", level, position))
        results = [await env.act(call("python", code=code)) for code in codes]
        await env.close()
        return results

    return with_worker(main, **settings)


def texts(*codes: str, **settings: Any) -> list[str]:
    return [result.observation.text for result in run_codes(*codes, **settings)]


def test_names_persist_within_an_episode_only() -> None:
    assert texts("x = 40", "print(x + 2)") == ["nothing printed", "42"]
    assert "NameError" in texts("print(x)")[0]


@pytest.mark.parametrize(
    "code",
    [
        'print(price("pear") * 7)',
        'print(7 * price("pear"))',
        'print(int(price("pear")) * 7)',
        'print(int(str(price("pear"))) * 7)',
        "print(eval(f\"{price('pear')}*7\"))",
        'print(price(neighbor("pear")))',
    ],
)
def test_two_calls_cannot_be_composed_into_one(code: str) -> None:
    async def main(worker: Worker) -> StepResult:
        env = worker.new()
        await env.start(task_of("train", 0, 0))
        facts(env)["price", "pear"] = "83"
        result = await env.act(call("python", code=code))
        await env.close()
        return result

    result = with_worker(main)
    assert "Error" in result.observation.text
    assert "83" not in result.observation.text and "581" not in result.observation.text
    assert result.calls[0].valid and not result.calls[0].ok


TABLE = 'print(weight("date"))\nfor n in range(1, 100): print(f"={n}>{n + 12}")'


@pytest.mark.parametrize(
    "codes",
    [
        [TABLE],
        ['w = weight("date")', TABLE.replace('weight("date")', "w")],
        ['raise ValueError(str(weight("date")) + str(list(range(99))))'],
        ['print(" ".join(map(str, range(13, 112))), weight("date"))'],
    ],
)
def test_no_table_to_look_up_in_is_shown_beside_a_reply(codes: list[str]) -> None:
    *_, last = run_codes(*codes)
    assert last.observation.text == CROWDED and not last.calls[0].ok


def test_level_0_answers_one_question_per_call() -> None:
    asked = 'print(neighbor("pear"))\nfor item in ("fig", "nut"): print(price(item))'
    first, again = run_codes(asked, 'print(price("fig"), price("fig"))')
    assert first.observation.text.split("\n")[0] in ITEMS and not first.calls[0].ok
    assert first.observation.text.split("\n")[1:] == [ONE_QUESTION] * 2
    assert again.calls[0].ok and len({*again.observation.text.split()}) == 1
    assert ONE_QUESTION not in texts(asked, level=1)[0]


def test_a_text_of_a_reply_names_no_item() -> None:
    assert texts('print(price(str(neighbor("pear"))))') == ["unknown"]


def test_replies_are_filled_in_where_they_are_shown() -> None:
    async def main(worker: Worker) -> None:
        env = worker.new()
        await env.start(task_of("train", 0, 0))
        wanted = f"a pear: {facts(env)['price', 'pear']}"
        first = await env.act(call("python", code='p = price("pear")\nprint(f"a pear: {p}")'))
        later = await env.act(call("python", code='print("a pear:", p)'))
        assert first.observation.text == later.observation.text == wanted
        await env.close()

    with_worker(main)


def test_facts_never_enter_the_sandbox() -> None:
    async def main(worker: Worker, look: str) -> str:
        env = worker.new()
        await env.start(task_of("train", 0, 0))
        facts(env)["note", "ann"] = "zq7-0123abcd"
        assert (await env.act(call("python", code='print(note("ann"))'))).observation.text == "zq7-0123abcd"
        code = f"{SCAN}\n{look}\nprint(scan('zq7-[0-9a-f]{{8}}'))"
        result = await env.act(call("python", code=code))
        await env.close()
        return result.observation.text

    assert with_worker(lambda worker: main(worker, "")) == "[]"
    assert "zq7-89abcdef" in with_worker(lambda worker: main(worker, "x = 'zq7-' + '89abcdef'"))


def test_errors_are_short_at_level_0_and_have_their_lines_above() -> None:
    assert texts("print(1)\n1 / 0") == ["1\nZeroDivisionError: division by zero"]
    assert "line 1, in <module>\n    1 / 0" in texts("1 / 0", level=1)[0]


def test_a_lost_interpreter_is_an_observation_and_comes_back_empty() -> None:
    lost, after, new = texts("x = 1\nimport os\nos._exit(3)", "print(x)", "print(1)")
    assert "exited with status 3" in lost and "names are gone" in lost
    assert "NameError" in after and new == "1"
    assert "time limit" in texts("while True: pass", seconds=0.3)[0]


def test_long_output_is_cut() -> None:
    text = texts("print('a' * 5000)", max_output=100)[0]
    assert "[cut]" in text and len(text) < 130


def test_turns_run_out() -> None:
    results = run_codes(*["1"] * 5)
    assert [r.truncated for r in results] == [False] * 4 + [True]
    assert results[-1].correct is False


@pytest.mark.parametrize(("text", "correct"), [("{}", True), (" {}. ", True), ("1{}", False), ("", False)])
def test_answers_are_compared_as_words(text: str, correct: bool) -> None:
    async def main(worker: Worker) -> StepResult:
        env = worker.new()
        await env.start(task_of("train", 0, 1))
        problem = live(env).problem
        assert problem is not None
        return await env.act(answer(text.format(problem.answer)))

    result = with_worker(main)
    assert (result.correct, result.reward) == (correct, float(correct))


def test_a_program_may_stand_in_a_code_fence_and_earns_its_share() -> None:
    async def main(worker: Worker, wrap: str) -> StepResult:
        env = worker.new()
        shown = await env.start(task_of("train", 2, 0))
        problem = live(env).problem
        assert problem is not None and len(problem.cases) == 8
        source = CodeEnv().expert([shown.text, "seen"]).text
        result = await env.act(Action(text=wrap.replace("SOURCE", source)))
        await env.close()
        return result

    good = with_worker(lambda worker: main(worker, "Here:\n```python\nSOURCE\n```\nDone."))
    assert (good.correct, dict(good.reward_parts)) == (True, {"tests": 1.0})
    counted = (
        "SOURCE\n_f, _n = f, 0\ndef f(x):\n    global _n\n    _n += 1\n    return _f(x) if _n < 5 else None\n"
    )
    half = with_worker(lambda worker: main(worker, counted))
    assert (half.correct, half.reward) == (False, 0.5)
    assert with_worker(lambda worker: main(worker, "no program")).reward == 0


def test_a_fork_replays_into_a_sandbox_of_its_own() -> None:
    async def main(worker: Worker) -> tuple[str, str]:
        env = worker.new()
        await env.start(task_of("train", 0, 0))
        await env.act(call("python", code="x = 1"))
        twin = await env.fork()
        await env.act(call("python", code="x = 2"))
        seen = [(await one.act(call("python", code="print(x)"))).observation.text for one in (env, twin)]
        await env.close()
        await twin.close()
        return seen[0], seen[1]

    assert with_worker(main) == ("2", "1")


def test_the_sandbox_goes_with_the_episode() -> None:
    async def main(worker: Worker) -> list[bool]:
        env, held = worker.new(), []
        await env.start(task_of("train", 0, 0))
        held.append(live(env).box is None)
        await env.act(call("python", code="print(1)"))
        held.append(live(env).box is None)
        await env.act(answer("?"))
        held.append(live(env).box is None)
        await env.start(task_of("train", 0, 1))
        await env.act(call("python", code="print(1)"))
        await env.close()
        return [*held, live(env).box is None]

    before = children()
    assert with_worker(main) == [True, False, True, True]
    assert children() == before


def test_closing_ends_a_hung_call() -> None:
    async def main(worker: Worker) -> None:
        env = worker.new()
        await env.start(task_of("train", 0, 0))
        hung = asyncio.create_task(env.act(call("python", code="while True: pass")))
        await asyncio.sleep(0.3)
        await env.close()
        await asyncio.wait({hung}, timeout=2)
        assert hung.done()
        assert hung.exception() is not None or not hung.result().calls[0].ok

    before = children()
    with_worker(main, seconds=30.0)
    assert children() == before


def test_isolation_is_told_and_unsafe_only_by_name() -> None:
    async def main(worker: Worker) -> str:
        return worker.new().isolation

    assert with_worker(main) in ("namespaces", "landlock")
    assert with_worker(main, isolation="none") == "none"


@pytest.mark.parametrize(
    "settings", [{"level": 9}, {"isolation": "namespace"}, {"seconds": 0.0}, {"pool_size": -1}]
)
def test_wrong_settings_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(settings.values()))).lstrip("-").split(".")[0]):
        CodeEnv(**settings)


def test_no_framework_in_sight() -> None:
    assert "ModuleNotFoundError" in texts("import agentrl")[0]
    assert os.environ.get("HOME", "?") not in texts("import os\nprint(dict(os.environ))")[0]


def test_where_an_object_stands_is_not_shown() -> None:
    """Every process has its own addresses; a run that is resumed or repeated must read the same."""
    printed, raised = texts("print(price)", "raise ValueError(price)")
    assert printed == "<function price at 0x...>" and "price at 0x...>" in raised
