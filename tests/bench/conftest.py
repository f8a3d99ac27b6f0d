"""The command line, run in this process."""

from tests.cli.conftest import agentrl_here as agentrl_here
