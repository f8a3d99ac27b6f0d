"""Run folders and curves."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from agentrl.curve import curve_svg, sparkline
from agentrl.ending import Ending
from agentrl.errors import ConfigError, RunStopped
from agentrl.runs import STOPPED, open_run


def test_the_same_configuration_finds_its_run_again(tmp_path: Path) -> None:
    run = open_run("a", {"seed": 0}, root=tmp_path)
    assert run.result is None
    run.write_json("result.json", {"steps": 3})
    run.close()
    again = open_run("a", {"seed": 0}, root=tmp_path)
    assert again.result == {"steps": 3}
    with pytest.raises(ConfigError, match="seed: 0 → 1"):
        open_run("a", {"seed": 1}, root=tmp_path)
    assert open_run("a", {"seed": 1}, root=tmp_path, fresh=True).result is None


def test_a_folder_that_is_no_run_is_never_touched(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["Qwen2ForCausalLM"]}')
    for fresh in (False, True):
        with pytest.raises(ConfigError, match="other things in it"):
            open_run(str(model), {}, fresh=fresh)
    assert (model / "config.json").exists()


@pytest.mark.parametrize("name", ["", "..", "a b", "-x"])
def test_a_bad_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="use letters"):
        open_run(name, {}, root=tmp_path)


def test_the_curve_is_a_picture_with_escaped_words() -> None:
    root = ElementTree.fromstring(curve_svg("<b>&", {"success": [(0, 0.0), (10, 1.0)]}))
    (line,) = root.iter("{http://www.w3.org/2000/svg}polyline")
    assert line.get("points") == "48.0,240.0 624.0,36.0"
    assert sparkline([0.0] * 50 + [1.0] * 50, width=4) == "▁▁██"


def test_why_a_run_gave_up_is_kept_until_it_goes_on(tmp_path: Path) -> None:
    run = open_run("x", {"seed": 0}, root=tmp_path)
    error = RunStopped("engine and trainer differ", facts={"mismatch_mean": 0.5})
    ending = Ending.of(ExceptionGroup("group", [error]), step=3)
    run.write_json(STOPPED, ending.to_json())
    run.close()
    assert Ending.read(run.path) == ending
    assert (ending.error, ending.message, ending.facts["mismatch_mean"]) == ("RunStopped", str(error), 0.5)
    for fresh in (False, True):
        again = open_run("x", {"seed": 0}, fresh=fresh, root=tmp_path)
        assert Ending.read(run.path) is None
        again.write_json(STOPPED, ending.to_json())
        again.close()
