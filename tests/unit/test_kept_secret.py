"""A secret that people put in place and replace, while a process lives on."""

from datetime import UTC, datetime

import pytest

from chalicelib.aws import KEPT, KeptSecret

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)


class Asked:
    """Where the secret is, and how often it was asked for."""

    def __init__(self) -> None:
        self.value = "first"
        self.times = 0

    def read(self) -> str:
        self.times += 1
        return self.value


def test_a_secret_that_serves_is_read_once() -> None:
    asked = Asked()
    kept = KeptSecret(asked.read)
    assert [next(kept.values(NOW + hours * KEPT)) for hours in range(5)] == ["first"] * 5
    assert asked.times == 1


def test_a_secret_that_does_not_serve_any_more_is_read_again() -> None:
    asked = Asked()
    kept = KeptSecret(asked.read)
    assert list(kept.values(NOW)) == ["first"]
    asked.value = "second"
    assert list(kept.values(NOW + KEPT)) == ["first", "second"]
    assert next(kept.values(NOW + KEPT)) == "second"


def test_who_sends_rubbish_does_not_make_us_read_again_and_again() -> None:
    asked = Asked()
    kept = KeptSecret(asked.read)
    for part in range(100):
        assert list(kept.values(NOW + part * KEPT / 100)) == ["first"]
    assert asked.times == 1


def test_a_secret_that_cannot_be_read_is_asked_for_at_the_next_request() -> None:
    asked = Asked()

    def read() -> str:
        if asked.times == 0:
            asked.read()
            raise OSError("out of reach")
        return asked.read()

    kept = KeptSecret(read)
    with pytest.raises(OSError, match="out of reach"):
        next(kept.values(NOW))
    assert list(kept.values(NOW)) == ["first"]
