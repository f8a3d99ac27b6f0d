"""Environments with one fault each; `FAULTS` says which check must find it and what its message must name."""

from tests.check import (
    faulty_answers,
    faulty_judges,
    faulty_moments,
    faulty_pay,
    faulty_results,
    faulty_running,
    faulty_tasks,
)

FAULTS = {
    kind: found
    for part in (
        faulty_tasks,
        faulty_results,
        faulty_running,
        faulty_judges,
        faulty_answers,
        faulty_moments,
        faulty_pay,
    )
    for kind, found in part.FAULTS.items()
}
"""Environment to (check, a cue in its detail)."""
