"""The environment contract as a program: it tries an environment in every way that training will."""

from agentrl.check.report import CheckResult, Report
from agentrl.check.run import CHECKS, check_environment

__all__ = ["CHECKS", "CheckResult", "Report", "check_environment"]
