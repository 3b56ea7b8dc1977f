"""The product is small, and its calls fail, in every test here."""

from collections.abc import Iterator

import pytest

from tests.crashes.world import crashing


@pytest.fixture(autouse=True)
def invoked() -> Iterator[set[str]]:
    """The functions of ``app.py`` that were invoked so far."""
    with crashing() as names:
        yield names
