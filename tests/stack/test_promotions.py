"""A promotion on the deployed stack: granted once, for the units that were shown."""

import re
from pathlib import Path

import pytest

from bench.units import Meter
from infra import reach
from infra.commands.grant import main
from infra.deployment import stage_services
from infra.local.stacks import LocalStack

USERS = [f"promoted-{number}" for number in range(3)]


def test_a_promotion_takes_the_write_units_that_were_shown_and_again_none(
    stack: LocalStack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    here = reach.reach_local(stack)
    monkeypatch.setattr(reach, "reach", lambda *_: here)
    monkeypatch.setattr(stage_services, "THREADS", 1)  # what is measured is one counter
    monkeypatch.setenv("COLUMNS", "200")
    for user_id in USERS:
        values = {
            "user_id": user_id,
            "timezone": "Europe/Paris",
            "plan": "pro",
            "billing_interval": "yearly",
            "status": "active",
            "started_at": "2025-01-01T00:00:00Z",
            "email": None,
        }
        reach.enter(here.services, values, here.services.now())
    file = tmp_path / "promo.csv"
    lives = ("30", "30", "never")
    rows = [f"{user},100,Thank you,{life}" for user, life in zip(USERS, lives, strict=True)]
    file.write_text("\n".join(("user_id,amount,description,expires_in_days", *rows, "")))
    meter = Meter()
    meter.watch(here.services.dynamodb)

    def grant(*words: str) -> tuple[float, str, str]:
        with meter.measuring() as measured:
            assert main([str(file), "--approved-by", "ada", *words]) == 0
        shown = capsys.readouterr()
        return measured.write_units, shown.err, shown.out.strip()

    units, said, digest = grant()
    (told,) = re.findall(r"in about (\d+) write units", said)
    assert (units, int(told)) == (0, 14)
    for written, words in ((14, "3 granted, 0 granted"), (0, "0 granted, 3 granted before")):
        units, said, _ = grant("--digest", digest)
        assert (units, words in said) == (written, True)
    for user_id in USERS:
        (entry,) = here.services.ledger.history(user_id)
        assert (entry.amount, entry.actor) == (100, "ada")
        here.services.ledger.verify(user_id)
