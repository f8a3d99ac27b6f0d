"""The command line as a whole: help, errors, exit codes, JSON."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agentrl.cli.doctor import EXTRAS
from agentrl.cli.main import commands, one_line
from agentrl.cli.output import Output
from agentrl.progress import PlainProgress
from tests.cli.conftest import AGENTRL, Run, interrupt, run_command

HEAVY = ("torch", "transformers", "gymnasium", "numpy", "rich", "sqlalchemy")


def test_help_is_light(agentrl: Run, tmp_path: Path) -> None:
    bare = min(run_command([sys.executable, "-c", "pass"], tmp_path).cpu_seconds for _ in range(3))
    shown = [agentrl("--help") for _ in range(3)]
    assert shown[0].code == 0 and all(name in shown[0].out for name in commands())
    assert min(one.cpu_seconds for one in shown) - bare <= 0.3


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["play", "--help"]])
def test_help_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = f"import sys; sys.argv = ['agentrl', *{words}]\nfrom agentrl.cli.main import main\n"
    code += f"try:\n main()\nfinally:\n print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    assert run_command([sys.executable, "-c", code], tmp_path).err.strip() == "[]"


@pytest.mark.parametrize("name", ["play", "envs"])
def test_works_without_torch(name: str, tmp_path: Path) -> None:
    code = f"""if True:
        import sys
        sys.modules["torch"] = sys.modules["transformers"] = None
        from agentrl.cli.main import main
        sys.exit(main(["{name}", "code"]))
    """
    ended = run_command([sys.executable, "-c", code], tmp_path)
    assert ended.code == 0, ended.err
    assert "python(code: str)" in ended.out


STEERING = "\x1b[2J\x1b]0;owned\x07\x9b1m\u202e\ud800 fine\ttoo"


def test_what_a_model_wrote_does_not_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=False).say(STEERING)
    PlainProgress().note(STEERING)
    said = capsys.readouterr().out
    assert said == 2 * "\\x1b[2J\\x1b]0;owned\\x07\\x9b1m\\u202e\\ud800 fine\ttoo\n"
    Output(json=True).result({"text": STEERING})
    shown = capsys.readouterr().out
    assert json.loads(shown)["text"] == STEERING and not {"\x1b", "\x9b"} & set(shown)
    assert one_line(ValueError(STEERING)).isprintable()


@pytest.mark.parametrize("name", list(commands()))
def test_every_command_explains_itself(name: str, agentrl: Run) -> None:
    text = agentrl(name, "--help").out
    assert "examples:" in text and f"agentrl {name}" in text and "--json" in text


WRONG = [
    (["trian"], "no command 'trian'; did you mean 'train'?"),
    (["train", "code", "--modle", "tiny"], "no option '--modle'; did you mean '--model'?"),
    (["train", "code"], "--model"),
    (["envs", "cod"], "no environment 'cod'; did you mean 'code'?"),
    (["envs", "nowhere:Env"], "no module 'nowhere'"),
    (["envs", "nowhere.py:Env"], "no file 'nowhere.py'"),
    (["play", "code", "--level", "9"], "level=9: it has levels 0, 1, 2, 3"),
    (["play", "code", "--split", "tset"], "no split 'tset'; did you mean 'test'?"),
    (["play", "code", "--set", "env.secnds=3"], "no setting 'secnds'; did you mean 'seconds'?"),
    (["play", "code", "--set", "seconds=3"], "no part 'seconds'; known: env"),
    (["bench", "code", "--policy", "exprt"], "no policy 'exprt'; did you mean 'expert'?"),
    (
        ["bench", "code", "--policy", "Qwen/Qwen3-0.6B", "--tasks", "2"],
        "`hf download Qwen/Qwen3-0.6B` fetches",
    ),
    (["bench", "code", "--tasks", "0"], "'0': need a whole number of 1 or more"),
    (["call", "pyhton", "code=1"], "no tool 'pyhton'; did you mean 'python'?"),
    (["call", "python", "cod=1"], "no argument 'cod'; did you mean 'code'?"),
    (["call", "python", "print(1)"], "'print(1)' is no NAME=VALUE"),
    (["new", "my-env"], "'my-env' cannot be the name of a module"),
    (["new", "../my_env"], "'../my_env' cannot be the name of a module"),
    (["new", "class"], "'class' cannot be the name of a module"),
    (["new", ""], "'' cannot be the name of a module"),
    (["new", "numpy"], "would hide"),
    (["new", "tool_env"], "would hide"),
    (["new", "test_shop"], "pytest"),
    (["new", "a" * 300], "up to 64 letters"),
    (["envs", "code", "-x"], "unrecognized arguments: -x"),
    (["new", "json"], "would hide"),
    (["demo", "--control", "nothing"], "invalid choice: 'nothing'"),
    (["--json", "envs"], "stands before a command"),
]


@pytest.mark.parametrize(
    ("words", "message"), WRONG, ids=lambda x: " ".join(x) if isinstance(x, list) else ""
)
def test_wrong_input_is_one_line_and_exit_code_2(words: list[str], message: str, agentrl: Run) -> None:
    ended = agentrl(*words)
    assert message in ended.complaint
    assert ended.out == ""


def test_debug_shows_the_traceback(agentrl: Run) -> None:
    ended = agentrl("envs", "cod", "--debug")
    assert ended.code == 2 and "Traceback" in ended.err


def test_a_faulty_module_is_named(agentrl: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    assert "broken cannot be imported: ModuleNotFoundError" in agentrl("envs", "broken:Env").complaint


def test_envs_json(agentrl: Run) -> None:
    (code,) = [e for e in agentrl("envs", "--json").data["environments"] if e["env"] == "code"]
    assert code["levels"] == [0, 1, 2, 3] and code["splits"] == ["train", "test", "ood"]
    assert code["tools"] == ["python(code: str)"] and code["expert"] and code["needs_sandbox"]


def test_tools_json(agentrl: Run) -> None:
    data = agentrl("tools", "--json").data
    assert [t["name"] for t in data["tools"]] == ["python"]
    assert {level["name"] for level in data["levels"]} == {"namespaces", "landlock"}
    assert any(level["works"] for level in data["levels"])


def test_doctor_json(agentrl: Run) -> None:
    data = agentrl("doctor", "--json").data
    parts = {p["name"]: p for p in data["parts"]}
    assert data["ok"] and {"python", "torch", "gpu", "memory", "disk", "sandbox"} <= set(parts)
    assert all(p["needed_for"] and p["detail"] for p in parts.values())
    assert all(parts[extra]["ok"] for extra in ("lora", "postgres", "renderers")), "tests need them all"


def test_only_extras_that_something_uses_are_advertised() -> None:
    root = Path(__file__).parents[2]
    known = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (advertised,) = re.findall(r"pip install '\.\[([\w,]+)\]'", (root / "README.md").read_text())
    parts = (root / name for name in ("agentrl", "tools", "envs", "trainers"))
    sources = [f.read_text() for part in parts for f in part.rglob("*.py")]
    for extra in {*EXTRAS, *advertised.split(",")}:
        module, _ = EXTRAS[extra]
        uses = rf"import {module}\b|from {module}\b|import_module\(.{module}\b|\+{module}\b"
        assert extra in known and any(re.search(uses, text) for text in sources), extra


def test_bench_json(agentrl: Run) -> None:
    (row,) = agentrl("bench", "code", "--policy", "expert", "--tasks", "4", "--json").data["results"]
    assert (row["env"], row["split"], row["policy"], row["episodes"]) == ("code", "test", "expert", 4)
    assert (
        row["success"] == 1.0
        and row["interval"][1] == pytest.approx(1.0)
        and row["calls"] >= 8
        and row["failures"] == {}
    )


def test_a_closed_pipe_is_no_error() -> None:
    line = f"{AGENTRL} envs | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


AT_IMPORT = """
import os, signal, sys


class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "$NAME":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)


sys.meta_path.insert(0, Interrupting())
"""


@pytest.mark.parametrize("module", ["agentrl.cli.main", "agentrl.cli.output", "agentrl.cli.envs"])
@pytest.mark.parametrize("command", [[AGENTRL], [sys.executable, "-m", "agentrl"]], ids=["script", "module"])
def test_interrupt_while_it_is_imported_ends_without_a_traceback(
    module: str, command: list[str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT.replace("$NAME", module))
    paths = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*command, "envs"], cwd=tmp_path, env=paths, capture_output=True, text=True, timeout=60
    )
    said = "" if module != "agentrl.cli.envs" else "agentrl: stopped"
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", said)


def test_interrupt_ends_with_one_line(tmp_path: Path) -> None:
    words = [AGENTRL, "bench", "code", "--policy", "expert", "--tasks", "100000"]
    process = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and "expert" in process.stdout.readline()
    code, err = interrupt(process)
    assert (code, err.strip()) == (130, "agentrl: stopped")
    left = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, text=True)
    assert left.stdout == ""
