"""Environments with one fault each; `FAULTS` says which check must find it and what its message must name."""

from tests.check import faulty_judges, faulty_results, faulty_running, faulty_tasks

FAULTS = faulty_tasks.FAULTS | faulty_results.FAULTS | faulty_running.FAULTS | faulty_judges.FAULTS
"""Environment to (check, a cue in its detail)."""
