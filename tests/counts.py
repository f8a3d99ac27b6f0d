"""How many examples a property gets whose examples are slow."""

from hypothesis import settings


def at_most(count: int) -> settings:
    """As many examples as the profile says, but no more than this: each takes a tenth of a second."""
    return settings(max_examples=min(count, settings().max_examples))
