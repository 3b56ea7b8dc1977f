"""The monthly count and the audit on the deployed stack, each function with its own rights."""

import json

import pytest

from chalicelib.domain.calendar import Period
from chalicelib.messages.checks import UNKNOWN_ZONES, ZoneCheck
from infra import reach
from infra.commands import completeness
from infra.local.stacks import LocalStack
from tests.stack.conftest import Invoke


def test_a_month_is_counted_and_its_table_printed(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = reach.reach_local(stack)
    monkeypatch.setattr(reach, "reach", lambda *_: reached)
    assert completeness.main(["2026-01", "--zones", "Europe/Paris,Asia/Tokyo"]) == 0
    shown = capsys.readouterr().out
    assert "Allocations of 2026-01, 2 zones" in shown
    # Nobody lives there on this stack: that is no month that went well.
    assert "\nnobody was due\n" in shown
    assert completeness.main(["2026-01", "--zones", "Europe/Paris", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is True
    assert completeness.main(["July"]) == 1
    assert "must be a month written like 2026-07" in capsys.readouterr().err


def test_a_sample_and_a_zone_are_audited(invoke: Invoke) -> None:
    for event in ({"sample": 10}, {"timezone": "Europe/Paris"}):
        answer = invoke("audit-ledgers", event)
        assert answer.error is None
        assert answer.payload["success"]
        assert answer.payload["corrupt"] == []
    # Whether there is such a user is asked of the subscriptions, which the role must allow.
    nobody = invoke("audit-ledgers", {"user_id": "nobody"})
    assert nobody.error is None
    assert nobody.payload["error"]["code"] == "not_found"


def test_everybody_is_looked_through_for_timezones_that_are_unknown(invoke: Invoke) -> None:
    check = ZoneCheck("unknown-zones", Period(2026, 1), UNKNOWN_ZONES, zones=1)
    record = {
        "messageId": "1",
        "receiptHandle": "1",
        "body": check.body(),
        "attributes": {"ApproximateReceiveCount": "1"},
    }
    answer = invoke("check-zone", {"Records": [record]})
    assert answer.error is None
    assert answer.payload == {"batchItemFailures": []}
