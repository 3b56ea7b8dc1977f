"""Subscriptions over the API: registering, replacing, changing, and edits at the same time."""

import json
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from chalicelib.api.principal import name_in_logs
from chalicelib.domain.edits import BY_MAIL_EVENTS
from chalicelib.domain.errors import Contention, LedgerCorrupt
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.subscriptions import SuppressedBecause, suppress
from tests.aws.api import ADMIN, BACKEND, Api, Caller, user
from tests.aws.world import World, at, client

PATH = "/api/subscriptions/42"

ADA: dict[str, Any] = {
    "email": "ada@example.com",
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-01T00:00:00Z",
}


def fields(reply: Any) -> list[str]:
    assert reply.status == 400, reply.text
    return [error["field"] for error in reply.json["errors"]]


def test_a_new_user_is_registered_with_what_follows_from_it(world: World, api: Api) -> None:
    reply = api.put(PATH, BACKEND, ADA)
    assert reply.status == 201
    assert reply.headers["etag"] == '"1"'
    assert reply.json == {
        "user_id": "42",
        **ADA,
        "allocation_amount": None,
        "language": "en",
        "notifications": [kind.value for kind in MailKind],
        "mail_suppressed_because": None,
        "eligible_from": "2026-01-15T12:00:00.250Z",
        "ends_at": None,
        "resumed_at": None,
        "observed_at": None,
        "next_credit_allocation": "2026-02-01",
        "credit_allocation_amount": 500,
        "not_allocated_because": None,
    }
    assert world.services.subscriptions.get("42").email == "ada@example.com"


def test_what_was_written_is_read_at_once(api: Api) -> None:
    written = api.put(PATH, BACKEND, ADA)
    read = api.get(PATH, ADMIN)
    assert (read.status, read.json) == (200, written.json)
    assert read.headers["etag"] == written.headers["etag"]
    changed = api.patch(PATH, BACKEND, {"plan": "starter"})
    assert api.get(PATH, BACKEND).json == changed.json
    assert changed.json["credit_allocation_amount"] == 100


def test_a_subscription_that_is_not_there_is_not_found(api: Api) -> None:
    assert api.get(PATH, BACKEND).status == 404
    assert api.patch(PATH, BACKEND, {"plan": "pro"}).status == 404
    assert api.patch(PATH, BACKEND, {"plan": "pro"}, headers={"If-Match": '"1"'}).status == 404


def test_a_put_replaces_the_whole(api: Api) -> None:
    api.put(PATH, ADMIN, {**ADA, "allocation_amount": 77})
    reply = api.put(PATH, ADMIN, {**ADA, "plan": "business"})
    assert (reply.status, reply.headers["etag"]) == (200, '"2"')
    assert reply.json["allocation_amount"] is None
    assert reply.json["credit_allocation_amount"] == 2000


def test_a_patch_keeps_what_it_does_not_name_and_null_takes_a_value_back(api: Api) -> None:
    api.put(PATH, ADMIN, {**ADA, "allocation_amount": 77})
    reply = api.patch(PATH, ADMIN, {"timezone": "Asia/Tokyo"})
    assert reply.json["allocation_amount"] == 77
    assert reply.json["timezone"] == "Asia/Tokyo"
    reply = api.patch(PATH, ADMIN, {"allocation_amount": None})
    assert reply.json["allocation_amount"] is None
    assert fields(api.patch(PATH, ADMIN, {"plan": None})) == ["plan"]


def test_an_edit_that_changes_nothing_is_no_new_version(api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    assert api.put(PATH, BACKEND, ADA).headers["etag"] == '"1"'
    assert api.patch(PATH, BACKEND, {}).headers["etag"] == '"1"'
    assert api.patch(PATH, BACKEND, {"plan": "pro"}).headers["etag"] == '"1"'


def test_a_resumed_subscription_is_given_nothing_for_the_time_before_it_resumed(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, ADA)
    api.patch(PATH, BACKEND, {"status": "paused"})
    assert api.get(PATH, BACKEND).json["next_credit_allocation"] is None
    assert api.get(PATH, BACKEND).json["credit_allocation_amount"] == 0
    world.allocate_at("2026-03-31T22:00:00Z")
    resumed = api.patch(PATH, BACKEND, {"status": "active"}).json
    assert resumed["resumed_at"] == "2026-03-31T22:00:00Z"
    assert resumed["eligible_from"] == "2026-01-15T12:00:00.250Z"
    assert (
        api.patch(PATH, BACKEND, {"plan": "starter"}).json["resumed_at"] == (resumed["resumed_at"])
    )


@pytest.mark.parametrize("wrong", ["fr", "german", "", 7])
def test_a_language_without_texts_is_refused_and_changes_nothing(api: Api, wrong: object) -> None:
    api.put(PATH, BACKEND, ADA)
    for reply in (
        api.patch(PATH, BACKEND, {"language": wrong}),
        api.put(PATH, BACKEND, {**ADA, "language": wrong}),
    ):
        assert (reply.status, fields(reply)) == (400, ["language"])
        assert "en, de" in reply.json["errors"][0]["message"]
    assert api.get(PATH, ADMIN).headers["etag"] == '"1"'
    changed = api.patch(PATH, BACKEND, {"language": "de-AT"})
    assert (changed.status, changed.json["language"]) == (200, "de")
    kept = api.put(PATH, BACKEND, ADA)
    assert (kept.json["language"], kept.headers["etag"]) == ("de", '"2"')


EDITABLE = ("email", "timezone", "plan", "billing_interval", "status", "started_at")
MORE = ("eligible_from", "ends_at", "allocation_amount", "notifications", "language", "observed_at")


def read_to_write_back(api: Api) -> dict[str, Any]:
    """What a program sends back that reads a subscription to change one field."""
    read = api.get(PATH, BACKEND).json
    return {name: read[name] for name in (*EDITABLE, *MORE)}


@pytest.mark.parametrize("eligible_from", [None, "2026-01-01T00:00:00Z", "2026-01-01"])
def test_a_put_of_what_was_read_pays_for_no_pause_however_often_it_is_sent(
    world: World, api: Api, eligible_from: str | None
) -> None:
    world.now = at("2026-11-01T12:00:00Z")
    world.zones.add("Europe/Paris")
    api.put(PATH, ADMIN, {**ADA, "eligible_from": eligible_from})
    world.now = at("2026-11-28T12:00:00Z")
    api.patch(PATH, ADMIN, {"status": "paused"})
    world.allocate_at("2026-11-30T23:00:00Z")
    world.allocate_at("2026-12-31T23:00:00Z")
    paused = read_to_write_back(api)
    world.now = at("2027-01-02T12:00:00Z")
    before = world.history("42")
    for _ in range(2):
        reply = api.put(PATH, ADMIN, {**paused, "status": "active"})
        assert reply.json["resumed_at"] == "2027-01-02T12:00:00Z"
        assert reply.json["next_credit_allocation"] == "2027-02-01"
    assert world.history("42") == before
    world.allocate_at("2027-01-31T23:00:00Z")
    granted = world.history("42")[len(before) :]
    assert [str(entry.allocated_through) for entry in granted] == ["2027-02"]


def test_an_eligible_from_that_is_set_back_in_mid_month_is_posted_by_the_edit(
    world: World, api: Api
) -> None:
    api.put(PATH, ADMIN, ADA)
    assert world.history("42") == []
    reply = api.patch(PATH, ADMIN, {"eligible_from": "2026-01-01"})
    assert reply.json["next_credit_allocation"] == "2026-02-01"
    (entry,) = world.history("42")
    assert (str(entry.allocated_through), entry.amount) == ("2026-01", 500)
    schedule = api.get("/api/credits/allocation-schedule?user_id=42", ADMIN).json
    assert schedule["next_allocation_at"] == "2026-01-31T23:00:00Z"
    api.patch(PATH, ADMIN, {"eligible_from": "2026-01-01"})
    assert world.history("42") == [entry]


def test_an_edit_stands_though_what_it_makes_due_cannot_be_posted_and_the_next_one_posts_it(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(PATH, ADMIN, ADA)
    with monkeypatch.context() as broken:

        def post(*_: object) -> None:
            raise Contention("somebody writes all the time")

        broken.setattr(world.services.ledger, "post", post)
        reply = api.patch(PATH, ADMIN, {"eligible_from": "2026-01-01"})
    assert (reply.status, reply.json["eligible_from"]) == (200, "2026-01-01")
    assert world.history("42") == []
    (line,) = [vars(each) for each in caplog.records if each.msg == "due allocation not posted"]
    assert (line["user_id"], line["error"]) == ("42", "somebody writes all the time")
    api.patch(PATH, ADMIN, {})
    assert [str(entry.allocated_through) for entry in world.history("42")] == ["2026-01"]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (EndpointConnectionError(endpoint_url="https://dynamodb"), 503),
        (LedgerCorrupt("42", 1, "its body cannot be read"), 500),
    ],
)
def test_an_edit_whose_ledger_cannot_be_read_is_an_error_and_changes_nothing(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int
) -> None:
    """Else it would be made, and answered with an error because of what is answered beside it."""
    api.put(PATH, BACKEND, ADA)
    before = world.services.subscriptions.get("42")

    def account(_: str) -> None:
        raise failure

    monkeypatch.setattr(world.services.ledger, "account", account)
    for send, edit in ((api.patch, {"plan": "starter"}), (api.put, {**ADA, "plan": "starter"})):
        assert send(PATH, BACKEND, edit).status == status
    assert world.services.subscriptions.get("42") == before


def test_an_edit_that_makes_several_months_due_is_answered_as_after_the_last_of_them(
    world: World, api: Api
) -> None:
    api.put(PATH, ADMIN, ADA)
    world.now = at("2026-03-15T12:00:00Z")
    reply = api.patch(PATH, ADMIN, {"eligible_from": "2026-01-01"})
    posted = [str(entry.allocated_through) for entry in world.history("42")]
    assert posted == ["2026-01", "2026-02", "2026-03"]
    assert reply.json["next_credit_allocation"] == "2026-04-01"
    assert reply.json == api.get(PATH, ADMIN).json


def test_a_subscription_ends_and_says_why_nothing_more_comes(world: World, api: Api) -> None:
    world.zones.add("Europe/Paris")
    api.put(PATH, BACKEND, {**ADA, "ends_at": "2026-02-28T23:00:00Z"})
    assert api.get(PATH, BACKEND).json["next_credit_allocation"] == "2026-02-01"
    world.allocate_at("2026-01-31T23:00:00Z")
    ending = api.get(PATH, BACKEND).json
    assert ending["ends_at"] == "2026-02-28T23:00:00Z"
    assert ending["next_credit_allocation"] is None
    assert ending["not_allocated_because"]["code"] == "subscription_ended"
    world.allocate_at("2026-02-28T23:00:00Z")
    assert len(world.history("42")) == 1
    schedule = api.get("/api/credits/allocation-schedule?user_id=42", ADMIN).json
    assert schedule["not_allocated_because"]["code"] == "subscription_ended"


def test_an_edit_that_was_observed_earlier_than_the_stored_one_is_refused(api: Api) -> None:
    api.put(PATH, BACKEND, {**ADA, "observed_at": "2026-01-15T11:00:00Z"})
    outdated = {"plan": "starter", "observed_at": "2026-01-15T10:59:59Z"}
    for refused in (api.patch(PATH, BACKEND, outdated), api.put(PATH, BACKEND, ADA | outdated)):
        assert (refused.status, refused.json["code"]) == (422, "outdated_edit")
    read = api.get(PATH, BACKEND)
    assert (read.json["plan"], read.headers["etag"]) == ("pro", '"1"')
    newer = api.patch(PATH, BACKEND, {"plan": "starter", "observed_at": "2026-01-15T11:00:00Z"})
    assert (newer.status, newer.json["plan"]) == (200, "starter")


def test_eligible_from_can_be_set(api: Api) -> None:
    api.put(PATH, ADMIN, ADA)
    reply = api.patch(PATH, ADMIN, {"eligible_from": "2026-06-01T02:00:00+02:00"})
    assert reply.json["eligible_from"] == "2026-06-01T00:00:00Z"
    assert reply.json["next_credit_allocation"] == "2026-07-01"
    # By a PATCH with null and by a PUT without it: back to the first registration.
    freed = api.patch(PATH, ADMIN, {"eligible_from": None})
    assert freed.json["eligible_from"] == "2026-01-15T12:00:00.250Z"
    assert freed.json["next_credit_allocation"] == "2026-02-01"
    api.patch(PATH, ADMIN, {"eligible_from": "2062-01-01T00:00:00Z"})
    replaced = api.put(PATH, ADMIN, ADA)
    assert replaced.json["eligible_from"] == "2026-01-15T12:00:00.250Z"
    assert replaced.json["next_credit_allocation"] == "2026-02-01"


# --- What is stored and would not be taken today ------------------------------------------------


def stored_otherwise(world: World, **attributes: str | None) -> None:
    """Alters the stored subscription past all checks, as an older version may have written it."""
    table = world.settings.subscriptions_table
    item = client("dynamodb").get_item(TableName=table, Key={"user_id": {"S": "42"}})["Item"]
    for name, value in attributes.items():
        item.pop(name, None)
        if value is not None:
            item[name] = {"S": value}
    client("dynamodb").put_item(TableName=table, Item=item)


def test_a_subscription_without_an_address_can_be_changed_without_giving_one(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, ADA)
    stored_otherwise(world, email=None)
    reply = api.patch(PATH, BACKEND, {"timezone": "Asia/Tokyo"})
    assert (reply.status, reply.json["email"], reply.json["timezone"]) == (200, None, "Asia/Tokyo")
    given = api.patch(PATH, BACKEND, {"email": "ada@example.com"})
    assert given.json["email"] == "ada@example.com"


def test_a_user_needs_no_address_and_it_can_be_taken_away(api: Api) -> None:
    nameless = {name: value for name, value in ADA.items() if name != "email"}
    for body in (nameless, {**ADA, "email": None}):
        reply = api.put(PATH, BACKEND, body)
        assert (reply.status // 100, reply.json["email"]) == (2, None)
    assert api.patch(PATH, BACKEND, {"email": "ada@example.com"}).json["email"] == ADA["email"]
    assert api.patch(PATH, BACKEND, {"plan": "pro"}).json["email"] == ADA["email"]
    assert api.patch(PATH, BACKEND, {"email": None}).json["email"] is None
    assert api.get(PATH, BACKEND).json["email"] is None


def test_an_address_that_ses_would_refuse_is_refused_with_the_cause(api: Api) -> None:
    causes = {
        "taro..05@example.com": "before the @, a dot cannot be first, last or follow another",
        "müller@example.com": "SES sends to ASCII letters alone before the @",
    }
    for email, cause in causes.items():
        (error,) = api.put(PATH, BACKEND, {**ADA, "email": email}).json["errors"]
        assert error["field"] == "email"
        assert cause in error["message"]
    reply = api.put(PATH, BACKEND, {**ADA, "email": "ada@exämple.de"})
    assert (reply.status, reply.json["email"]) == (201, "ada@xn--exmple-cua.de")


# --- Suppressed addresses -----------------------------------------------------------------------

BOUNCED = {"mail_suppressed_because": None}


def bounce(world: World, address: str = "ada@example.com") -> None:
    world.services.subscriptions.change(
        "42",
        lambda present: suppress(present or pytest.fail("none"), address, SuppressedBecause.BOUNCE),
        BY_MAIL_EVENTS,
        world.now,
    )


def test_another_spelling_of_an_address_lifts_no_suppression(world: World, api: Api) -> None:
    api.put(PATH, BACKEND, {**ADA, "email": "ada@xn--exmple-cua.de"})
    bounce(world, "ADA@exämple.de")
    for spelling in ("Ada@XN--exmple-cua.DE", "ada@exämple.de", "ADA@EXÄMPLE.DE"):
        for reply in (
            api.patch(PATH, BACKEND, {"email": spelling}),
            api.put(PATH, BACKEND, {**ADA, "email": spelling}),
        ):
            assert (reply.status, reply.json["mail_suppressed_because"]) == (200, "bounce")
    assert (
        api.patch(PATH, BACKEND, {"email": "ada@example.org", **BOUNCED}).json[
            "mail_suppressed_because"
        ]
        is None
    )


def test_an_admin_lifts_a_suppression_on_purpose_and_the_log_says_who(
    world: World, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(PATH, BACKEND, ADA)
    bounce(world)
    assert api.get(PATH, ADMIN).json["mail_suppressed_because"] == "bounce"
    reply = api.patch(PATH, ADMIN, {**BOUNCED, "plan": "business"})
    assert (reply.status, reply.json["mail_suppressed_because"]) == (200, None)
    assert (reply.json["plan"], reply.headers["etag"]) == ("business", '"3"')
    (line,) = [vars(r) for r in caplog.records if r.getMessage() == "mails resumed"]
    assert (line["user_id"], line["actor"], line["suppressed"]) == ("42", "ada", "bounce")
    assert "ada@" not in json.dumps(line, default=str)
    # Again, or where nothing is suppressed: nothing to do.
    again = api.patch(PATH, ADMIN, BOUNCED)
    assert (again.status, again.headers["etag"]) == (200, '"3"')
    assert len([r for r in caplog.records if r.getMessage() == "mails resumed"]) == 1


def test_an_admin_who_lifts_a_suppression_and_is_known_by_an_address_is_logged_without_it(
    world: World, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(PATH, BACKEND, ADA)
    bounce(world)
    api.patch(PATH, Caller("admin@example.com", "", "credits:admin"), BOUNCED)
    (line,) = [vars(r) for r in caplog.records if r.getMessage() == "mails resumed"]
    assert line["actor"] == name_in_logs("admin@example.com") != "admin@example.com"


def test_nobody_lifts_a_suppression_by_taking_the_address_away_and_giving_it_back(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, ADA)
    world.services.subscriptions.change(
        "42",
        lambda present: suppress(
            present or pytest.fail("nobody"), "ada@example.com", SuppressedBecause.BOUNCE
        ),
        BY_MAIL_EVENTS,
        world.now,
    )
    for email in (None, "other@example.com"):
        assert api.patch(PATH, BACKEND, {"email": email}).json["mail_suppressed_because"] is None
        back = api.patch(PATH, BACKEND, {"email": "Ada@Example.com"}).json
        assert back["mail_suppressed_because"] == "bounce"
    lifted = api.patch(PATH, ADMIN, {"mail_suppressed_because": None}).json
    assert lifted["mail_suppressed_because"] is None
    api.patch(PATH, BACKEND, {"email": None})
    again = api.patch(PATH, BACKEND, {"email": "ada@example.com"}).json
    assert again["mail_suppressed_because"] is None


def test_nobody_but_an_admin_lifts_a_suppression_and_nobody_sets_one(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, ADA)
    bounce(world)
    before = api.get(PATH, ADMIN)
    assert api.patch(PATH, BACKEND, BOUNCED).status == 403
    for caller in (BACKEND, ADMIN):
        for because in ("complaint", "", False):
            reply = api.patch(PATH, caller, {"mail_suppressed_because": because})
            assert fields(reply) == ["mail_suppressed_because"]
        assert fields(api.put(PATH, caller, {**ADA, **BOUNCED})) == ["mail_suppressed_because"]
    after = api.get(PATH, ADMIN)
    assert (after.json, after.headers["etag"]) == (before.json, before.headers["etag"])


# --- Timezones that leave the database ----------------------------------------------------------

TIMEZONE_UNKNOWN = {
    "code": "timezone_unknown",
    "words": "The timezone is no longer in the database of timezones.",
}


def test_a_timezone_that_left_the_database_is_named_as_the_reason_and_breaks_no_reading(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, ADA)
    world.grant("42", 5, "a", expires_in_days=10)
    stored_otherwise(world, timezone="Asia/Gone")
    reply = api.get(PATH, BACKEND)
    assert (reply.status, reply.json["timezone"]) == (200, "Asia/Gone")
    assert reply.json["next_credit_allocation"] is None
    assert reply.json["not_allocated_because"] == TIMEZONE_UNKNOWN
    schedule = api.get("/api/credits/allocation-schedule", user("42"))
    assert schedule.status == 200, schedule.text
    assert schedule.json["not_allocated_because"] == TIMEZONE_UNKNOWN
    assert [expiring["amount"] for expiring in schedule.json["expiring_credits"]] == [5]
    assert api.get("/api/credits/balance", user("42")).json["available_balance"] == 5
    assert api.get("/api/credits/history", user("42")).status == 200
    used = {"amount": 1, "description": "x"}
    assert api.post("/api/credits/use", user("42"), used, key="k").status == 200


def test_an_edit_of_other_fields_leaves_an_unknown_timezone_alone_and_a_known_one_mends_it(
    world: World, api: Api
) -> None:
    api.put(PATH, ADMIN, {**ADA, "eligible_from": "2025-12-01"})
    stored_otherwise(world, timezone="Asia/Gone", allocation_timezone="Asia/Gone")
    reply = api.patch(PATH, ADMIN, {"plan": "business"})
    assert (reply.status, reply.json["timezone"]) == (200, "Asia/Gone")
    assert reply.json["not_allocated_because"] == TIMEZONE_UNKNOWN
    # The caller who names the unknown zone is to blame.
    assert fields(api.patch(PATH, ADMIN, {"timezone": "Asia/Gone"})) == ["timezone"]
    mended = api.patch(PATH, ADMIN, {"timezone": "Asia/Tokyo"})
    assert (mended.status, mended.json["not_allocated_because"]) == (200, None)
    # They were owed their months all the time: they have not resumed now.
    assert mended.json["resumed_at"] is None


def test_a_grant_that_needs_the_unknown_timezone_blames_the_data_and_says_what_to_do(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, ADA)
    stored_otherwise(world, timezone="Asia/Gone")
    body = {"user_id": "42", "amount": 5, "description": "x", "expires_in_days": 10}
    reply = api.post("/api/credits/allocate", ADMIN, body, key="k")
    assert (reply.status, reply.json["code"], reply.json["errors"]) == (500, "timezone_unknown", [])
    assert reply.json["detail"] == (
        "the stored timezone 'Asia/Gone' is no longer in the database of timezones; "
        "an admin must change the subscription's timezone"
    )
    assert api.get("/api/credits/balance", user("42")).json["available_balance"] == 0


PLAN_UNKNOWN = {
    "code": "plan_unknown",
    "words": "The plan is no longer in the catalogue of plans.",
}


def test_a_plan_that_left_the_catalogue_is_named_as_the_reason_and_breaks_no_reading(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, ADA)
    world.grant("42", 50, "a")
    stored_otherwise(world, plan="discontinued")
    read = api.get(PATH, ADMIN).json
    assert (read["plan"], read["next_credit_allocation"]) == ("discontinued", None)
    assert (read["credit_allocation_amount"], read["not_allocated_because"]) == (0, PLAN_UNKNOWN)
    schedule = api.get("/api/credits/allocation-schedule", user("42")).json
    assert (schedule["current_balance"], schedule["next_allocation_date"]) == (50, None)
    assert schedule["not_allocated_because"] == PLAN_UNKNOWN


def test_a_user_of_a_plan_that_left_the_catalogue_can_be_changed_and_moved_to_another(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, ADA)
    stored_otherwise(world, plan="discontinued")
    paused = api.patch(PATH, BACKEND, {"status": "paused"})
    assert (paused.status, paused.json["plan"]) == (200, "discontinued")
    assert fields(api.patch(PATH, BACKEND, {"plan": "discontinued"})) == ["plan"]
    moved = api.patch(PATH, BACKEND, {"plan": "pro", "status": "active"}).json
    assert (moved["next_credit_allocation"], moved["not_allocated_because"]) == ("2026-02-01", None)


# --- Edits at the same time ---------------------------------------------------------------------


def test_an_edit_of_an_old_version_is_refused(api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    first = {"If-Match": '"1"'}
    assert api.patch(PATH, BACKEND, {"plan": "starter"}, headers=first).status == 200
    for refused in (
        api.patch(PATH, BACKEND, {"plan": "business"}, headers=first),
        api.put(PATH, ADMIN, ADA, headers=first),
        api.put(PATH, ADMIN, ADA, headers={"If-Match": '"7"'}),
        api.put(PATH, ADMIN, ADA, headers={"If-Match": 'W/"2"'}),
        api.put(PATH, ADMIN, ADA, headers={"If-Match": '"2"', "If-None-Match": "*"}),
    ):
        assert (refused.status, refused.json["code"]) == (412, "version_conflict")
    assert api.get(PATH, BACKEND).json["plan"] == "starter"
    assert api.get(PATH, BACKEND).headers["etag"] == '"2"'


def test_an_edit_of_a_version_whose_answer_was_lost_is_answered_with_success(
    world: World, api: Api, monkeypatch: Any
) -> None:
    """The SDK asks again and is refused, for what it wrote the first time is there."""
    dynamodb = world.services.dynamodb
    original = dynamodb.call

    def twice(name: str, arguments: Any) -> Any:
        if name == "ExecuteTransaction":
            original(name, arguments)
        return original(name, arguments)

    monkeypatch.setattr(dynamodb, "call", twice)
    assert api.put(PATH, BACKEND, ADA, headers={"If-None-Match": "*"}).status == 201
    starter = {"If-Match": '"1"'}
    reply = api.patch(PATH, BACKEND, {"plan": "starter"}, headers=starter)
    assert (reply.status, reply.headers["etag"], reply.json["plan"]) == (200, '"2"', "starter")
    reply = api.put(PATH, BACKEND, ADA, headers={"If-Match": '"2"'})
    assert (reply.status, reply.headers["etag"]) == (200, '"3"')
    assert api.patch(PATH, BACKEND, {"plan": "free"}, headers=starter).status == 412


def test_if_match_takes_a_list_and_a_star(api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    either = {"If-Match": '"9", "1"'}
    assert api.patch(PATH, BACKEND, {"plan": "starter"}, headers=either).status == 200
    assert api.patch(PATH, BACKEND, {"plan": "pro"}, headers={"If-Match": "*"}).status == 200


def test_if_match_on_a_user_who_is_not_registered_is_refused(api: Api) -> None:
    for tags in ("*", '"1"'):
        assert api.put(PATH, BACKEND, ADA, headers={"If-Match": tags}).status == 412
    assert api.get(PATH, BACKEND).status == 404


def test_if_none_match_registers_and_never_replaces(api: Api) -> None:
    only_new = {"If-None-Match": "*"}
    assert api.put(PATH, BACKEND, ADA, headers=only_new).status == 201
    again = api.put(PATH, BACKEND, {**ADA, "plan": "starter"}, headers=only_new)
    assert again.status == 412
    assert api.get(PATH, BACKEND).json["plan"] == "pro"


def test_malformed_preconditions_are_refused(api: Api) -> None:
    for tags in ("1", '"1', '"1""2"', "", '"a b"', "**"):
        assert fields(api.put(PATH, BACKEND, ADA, headers={"If-Match": tags})) == ["If-Match"]
    assert fields(api.put(PATH, BACKEND, ADA, headers={"If-None-Match": '"1"'})) == [
        "If-None-Match"
    ]


def another_edits_before(world: World, monkeypatch: Any, **changes: object) -> None:
    """Somebody else writes between the reading and the writing of the next edit."""
    store = world.services.subscriptions
    write = store._write

    def late(*edit: Any) -> Any:
        monkeypatch.setattr(store, "_write", write)
        world.subscribe("42", **changes)
        return write(*edit)

    monkeypatch.setattr(store, "_write", late)


def test_a_patch_that_loses_a_race_is_merged_onto_the_winner(
    world: World, api: Api, monkeypatch: Any
) -> None:
    api.put(PATH, BACKEND, ADA)
    another_edits_before(world, monkeypatch, plan="starter")
    reply = api.patch(PATH, BACKEND, {"timezone": "Asia/Tokyo"})
    assert (reply.status, reply.headers["etag"]) == (200, '"3"')
    assert (reply.json["plan"], reply.json["timezone"]) == ("starter", "Asia/Tokyo")


def test_an_edit_with_if_match_that_loses_a_race_is_refused(
    world: World, api: Api, monkeypatch: Any
) -> None:
    api.put(PATH, BACKEND, ADA)
    another_edits_before(world, monkeypatch, plan="starter")
    reply = api.patch(PATH, BACKEND, {"timezone": "Asia/Tokyo"}, headers={"If-Match": '"1"'})
    assert reply.status == 412
    assert api.get(PATH, BACKEND).json["timezone"] == "Europe/Paris"


def test_a_put_that_loses_the_race_to_register_a_user_has_replaced_and_made_nobody(
    world: World, api: Api, monkeypatch: Any
) -> None:
    another_edits_before(world, monkeypatch, plan="starter")
    reply = api.put(PATH, BACKEND, ADA)
    assert (reply.status, reply.headers["etag"]) == (200, '"2"')
    assert reply.json["plan"] == ADA["plan"]


def test_an_edit_that_keeps_losing_is_told_to_come_back(
    world: World, api: Api, monkeypatch: Any
) -> None:
    api.put(PATH, BACKEND, ADA)
    store = world.services.subscriptions
    monkeypatch.setattr(store, "_pause", lambda _: None)

    monkeypatch.setattr(store, "_write", lambda *_: frozenset({"ConditionalCheckFailed"}))
    reply = api.patch(PATH, BACKEND, {"plan": "starter"})
    assert (reply.status, reply.json["code"]) == (409, "contention")
    assert reply.headers["retry-after"] == "1"


# --- The user id and the fields -----------------------------------------------------------------


def test_the_user_id_in_the_path_is_percent_encoded(api: Api) -> None:
    for encoded, user_id in (
        ("auth0%7C5f7c%40example.com", "auth0|5f7c@example.com"),
        ("a%2Bb", "a+b"),
        ("a+b", "a+b"),
        ("a%3Ab%3Dc", "a:b=c"),
    ):
        reply = api.put(f"/api/subscriptions/{encoded}", BACKEND, ADA)
        assert reply.json["user_id"] == user_id
        assert api.get(f"/api/subscriptions/{encoded}/", BACKEND).json["user_id"] == user_id


def test_a_wrong_user_id_in_the_path_is_refused(api: Api) -> None:
    for encoded in ("a%20b", "%FF", "a%2Fb", "%2540", "x" * 129, "%00", "%C3%BC"):
        assert fields(api.get(f"/api/subscriptions/{encoded}", BACKEND)) == ["user_id"]


def test_a_user_id_in_the_body_must_be_that_of_the_path(api: Api) -> None:
    assert api.put(PATH, BACKEND, {"user_id": 42, **ADA}).status == 201
    assert api.patch(PATH, BACKEND, {"user_id": "42"}).status == 200
    assert fields(api.put(PATH, BACKEND, {"user_id": 43, **ADA})) == ["user_id"]
    assert fields(api.patch(PATH, BACKEND, {"user_id": []})) == ["user_id"]


WRONG_FIELDS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("email", ("", "ada", "ada@", "a b@example.com", 5, "x" * 255 + "@example.com")),
    ("timezone", ("Europe/Pariss", "europe/paris", "", 5, "GMT+2", "../etc/passwd")),
    ("plan", ("gold", "", 5, "x" * 1000)),
    ("billing_interval", ("weekly", 1, "YEARLY")),
    ("status", ("gone", True)),
    ("started_at", ("2026-01-01", "2026-01-01T00:00:00", 0, "3000-01-01T00:00:00Z")),
    ("eligible_from", ("soon", 5)),
    ("allocation_amount", (0, -1, 1.0, "5", True, 1_000_000_001)),
    ("next_credit_allocation", ("2026-02-01",)),
    ("version", (1,)),
)


def test_a_wrong_field_is_named_and_nothing_is_written(api: Api) -> None:
    for field, values in WRONG_FIELDS:
        for value in values:
            assert fields(api.put(PATH, BACKEND, {**ADA, field: value})) == [field], value
    assert api.get(PATH, BACKEND).status == 404
    api.put(PATH, BACKEND, ADA)
    for field, values in WRONG_FIELDS:
        for value in values:
            assert fields(api.patch(PATH, BACKEND, {field: value})) == [field], value
    assert api.get(PATH, BACKEND).headers["etag"] == '"1"'


def test_a_misspelt_timezone_is_answered_with_the_nearest(api: Api) -> None:
    (error,) = api.put(PATH, BACKEND, {**ADA, "timezone": "Europe/Pariss"}).json["errors"]
    assert error["message"] == "unknown timezone 'Europe/Pariss'; did you mean 'Europe/Paris'?"


def test_all_missing_fields_are_named_at_once(api: Api) -> None:
    assert fields(api.put(PATH, BACKEND, {})) == [name for name in ADA if name != "email"]


def test_users_do_not_see_subscriptions_not_even_their_own(api: Api) -> None:
    api.put(PATH, BACKEND, ADA)
    for caller in (user("42"), user("1")):
        for reply in (
            api.get(PATH, caller),
            api.put(PATH, caller, ADA),
            api.patch(PATH, caller, {"plan": "business"}),
        ):
            assert (reply.status, reply.json["code"]) == (403, "forbidden")


def test_the_log_says_that_emails_are_resumed_once_they_are(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api.put(PATH, BACKEND, ADA)
    bounce(world)
    store = world.services.subscriptions

    def decided_in_vain(user_id: str, decide: Any, *_: object) -> None:
        decide(store.get(user_id))
        raise Contention("others keep winning")

    with monkeypatch.context() as patched:
        patched.setattr(store, "change", decided_in_vain)
        assert api.patch(PATH, ADMIN, BOUNCED).status == 409
    assert "mails resumed" not in caplog.messages, "nothing was written"
    assert api.patch(PATH, ADMIN, BOUNCED).status == 200
    assert caplog.messages.count("mails resumed") == 1
