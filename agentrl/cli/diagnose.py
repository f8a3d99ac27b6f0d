"""`agentrl diagnose`: why a run does not learn."""

from __future__ import annotations

import argparse

from agentrl.cli.command import Command
from agentrl.cli.output import Output


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("run", metavar="RUN", help="the run's name, or its folder; it may still train")


def run(options: argparse.Namespace, out: Output) -> int:
    """Read the run, and say what is wrong with it: the most probable cause first."""
    from agentrl.diagnose.figures import figures
    from agentrl.diagnose.ranking import diagnose
    from agentrl.diagnose.reading import read_evidence
    from agentrl.diagnose.report import lines
    from agentrl.store.inventory import find_run

    info = find_run(options.run)
    evidence = read_evidence(info)
    found, numbers = diagnose(evidence), figures(evidence)
    for line in lines(options.run, found, numbers):
        out.say(line)
    out.result(
        {
            "run": str(info.path),
            "state": info.state,
            "steps": len(evidence.steps),
            "healthy": not found,
            "findings": [f.to_json() for f in found],
            "figures": numbers,
        }
    )
    return 0


COMMAND = Command(
    section="Train and measure",
    summary="say why a run does not learn: the most probable cause first, with evidence",
    examples=("agentrl diagnose demo-0", "agentrl diagnose runs/demo-0 --json"),
    configure=configure,
    run=run,
)
