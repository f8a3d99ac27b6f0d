"""Settings of the whole suite: how many examples each property gets, and one thread per process."""

import os
import signal
from collections.abc import Generator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: small models run faster so

import pytest
from hypothesis import HealthCheck, settings

# A suite that a shell started in the background would hand "ignore Ctrl-C" down to the commands under test.
signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "short", max_examples=25, deadline=None, derandomize=True, suppress_health_check=SLOW
)
settings.register_profile("long", max_examples=1000, deadline=None, suppress_health_check=SLOW)
settings.load_profile("short")  # `make test-long` asks for the other one


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what would be skipped: a part that is missing here is a fault of the set-up, not a pass."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped: {call.excinfo.value if call.excinfo else 'expected to fail'}"
    return report
