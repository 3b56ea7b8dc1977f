"""The codes of errors: clients decide by them, so they stay."""

import pytest

from chalicelib.domain import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CreditsError, "error"),
        (errors.InvalidInput, "invalid_input"),
        (errors.NotFound, "not_found"),
        (errors.InsufficientCredits, "insufficient_credits"),
        (errors.IdempotencyKeyReused, "idempotency_key_reused"),
        (errors.NotAllowed, "not_allowed"),
        (errors.HoldEnded, "hold_ended"),
        (errors.VersionConflict, "version_conflict"),
        (errors.Contention, "contention"),
        (errors.TimezoneUnknown, "timezone_unknown"),
        (errors.Unreadable, "unreadable"),
        (errors.LedgerCorrupt, "ledger_corrupt"),
        (errors.OutdatedEdit, "outdated_edit"),
        (errors.AnchorUnreadable, "anchor_unreadable"),
    ],
)
def test_an_error_has_the_code_that_clients_know(
    error: type[errors.CreditsError], code: str
) -> None:
    assert error.code == code
