"""A hold that ends just after a midnight is booked out with the day that has begun, not before."""

from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.store.ledger_items import item_of

MIDNIGHT = datetime(2026, 3, 3, 23, tzinfo=UTC)
REQUEST = Request("hold#shop#key", "shop", "Render")


def opened(ends_at: datetime) -> LedgerEntry:
    """A hold until then, of credits that expire before."""
    now = ends_at - timedelta(days=5)
    granted = ledger.grant(Account("ada"), 50, REQUEST, now, "Europe/Paris", Days(1))
    account = Account("ada", granted)
    return ledger.hold(account, 20, 5 * 86_400, REQUEST, now, lambda: "Europe/Paris")


@pytest.mark.parametrize(
    ("after_midnight", "second"), [(0, "00"), (1, "01"), (999, "01"), (1000, "01"), (-1, "00")]
)
def test_the_key_of_a_hold_sorts_where_its_instant_belongs(
    after_midnight: int, second: str
) -> None:
    entry = opened(MIDNIGHT + timedelta(milliseconds=after_midnight))
    key = item_of(entry, "0" * 64)["expiry_key"]["S"]
    assert key == f"2026-03-03T23:00:{second}Z#ada#2"


def test_so_does_that_of_an_end_that_frees_what_has_expired() -> None:
    entry = opened(MIDNIGHT)
    now = MIDNIGHT - timedelta(days=1, milliseconds=-7)
    ended = ledger.capture(
        Account("ada", entry),
        2,
        0,
        Request("end#ada-2", "shop", "Over"),
        now,
        lambda: "Europe/Paris",
    )
    assert item_of(ended, "0" * 64)["expiry_key"]["S"] == "2026-03-02T23:00:01Z#ada#3"
