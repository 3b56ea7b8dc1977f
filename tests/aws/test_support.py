"""What those who answer users find, see and try over the API."""

import json
import re
from datetime import timedelta
from itertools import product
from typing import Any
from unittest.mock import Mock

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from chalicelib.domain import notifications
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.events import events_of
from chalicelib.jobs import completeness
from chalicelib.operations import months, on_request
from chalicelib.queues import Queues
from chalicelib.settings import NEVER_A_SHADOW, STILL_A_SHADOW
from chalicelib.store.mails import record_id
from chalicelib.upkeep import Upkeep
from infra.deployment.alarm_resources import Alarm
from infra.deployment.alarms import SYMPTOMS
from infra.deployment.symptoms import Part
from tests.aws.api import ADMIN, BACKEND, Api, user
from tests.aws.damage import damage_entry, newer
from tests.aws.world import World, at, client

Json = dict[str, Any]

SUBSCRIPTIONS = "/api/subscriptions"


def found(api: Api, query: str) -> list[str]:
    """The ids on all pages."""
    user_ids: list[str] = []
    cursor = ""
    while True:
        reply = api.get(f"{SUBSCRIPTIONS}?{query}{cursor}", ADMIN)
        assert reply.status == 200, reply.text
        user_ids += [each["user_id"] for each in reply.json["subscriptions"]]
        if reply.json["next_cursor"] is None:
            return user_ids
        cursor = f"&cursor={reply.json['next_cursor']}"


# --- Finding a user -----------------------------------------------------------------------------


def test_all_who_share_an_address_are_found_however_it_is_spelled(world: World, api: Api) -> None:
    world.subscribe("1", email="Ada@Exämple.com")
    world.subscribe("2", email="ada@xn--exmple-cua.com", status="cancelled")
    world.subscribe("3", email="adam@xn--exmple-cua.com")
    for spelling in ("ada@ex%C3%A4mple.com", "ADA@xn--exmple-cua.COM"):
        assert found(api, f"email={spelling}") == ["1", "2"]
        assert found(api, f"email={spelling}&limit=1") == ["1", "2"]
    assert found(api, "email=ada@ex%C3%A4mple.com&status=cancelled") == ["2"]
    assert found(api, "email=nobody@example.com") == []


def test_who_is_found_is_shown_in_short(world: World, api: Api) -> None:
    world.subscribe("1")
    reply = api.get(f"{SUBSCRIPTIONS}?email=user1@example.com", ADMIN)
    assert reply.json == {
        "subscriptions": [
            {
                "user_id": "1",
                "email": "user1@example.com",
                "timezone": "Europe/Paris",
                "plan": "pro",
                "billing_interval": "yearly",
                "status": "active",
                "started_at": "2025-01-01T00:00:00Z",
            }
        ],
        "unreadable": 0,
        "next_cursor": None,
    }


def test_a_user_is_found_by_their_new_address_and_not_by_their_old_one(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    world.subscribe("1", email="new@example.com")
    assert found(api, "email=user1@example.com") == []
    assert found(api, "email=new@example.com") == ["1"]
    world.subscribe("1", email=None)
    assert found(api, "email=new@example.com") == []


def test_an_address_that_a_lagging_index_still_has_finds_nobody(world: World, api: Api) -> None:
    world.subscribe("1")
    client("dynamodb").update_item(
        TableName=world.settings.subscriptions_table,
        Key={"user_id": {"S": "1"}},
        UpdateExpression="SET email = :email",
        ExpressionAttributeValues={":email": {"S": "new@example.com"}},
    )
    assert found(api, "email=user1@example.com") == []


def test_an_erased_user_whom_a_lagging_index_still_has_is_not_found(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id, email="ada@example.com")
    listed = world.services.subscriptions.users_with("ada@example.com", None, 20)
    world.services.subscriptions.remove("1")
    monkeypatch.setattr(world.services.subscriptions, "users_with", lambda *_: listed)
    assert found(api, "email=ada@example.com") == ["2"]


def test_an_erased_user_is_not_found_by_their_address(world: World, api: Api) -> None:
    world.subscribe("1")
    world.services.subscriptions.remove("1")
    assert found(api, "email=user1@example.com") == []
    index = {"TableName": world.settings.subscriptions_table, "IndexName": "by_address"}
    assert client("dynamodb").scan(**index)["Items"] == []


def test_the_index_of_addresses_has_no_address(world: World) -> None:
    world.subscribe("1")
    index = {"TableName": world.settings.subscriptions_table, "IndexName": "by_address"}
    (item,) = client("dynamodb").scan(**index)["Items"]
    assert "example.com" not in item["address"]["S"]


def test_filters_combine_and_pages_lose_nobody(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.store.subscriptions.SEARCHED_AT_ONCE", 3)
    monkeypatch.setattr("chalicelib.store.subscriptions.MOST_SEARCHED", 6)
    for number in range(20):
        changes: Json = {} if number % 4 else {"status": "paused"}
        plan = "starter" if number % 5 else "pro"
        world.subscribe(f"u{number}", plan=plan, **changes)
    world.subscribe("v", timezone="Asia/Tokyo", status="paused", plan="starter")
    everybody = sorted(f"u{number}" for number in range(20))
    assert sorted(found(api, "limit=7")) == sorted([*everybody, "v"])
    paused = {f"u{number}" for number in range(0, 20, 4)}
    starters = {f"u{number}" for number in range(20) if number % 5}
    for limit in (1, 2, 3, 100):
        assert set(found(api, f"status=paused&limit={limit}")) == {*paused, "v"}
        assert set(found(api, f"status=paused&plan=starter&limit={limit}")) == {
            *(paused & starters),
            "v",
        }
        assert found(api, f"timezone=Asia/Tokyo&limit={limit}") == ["v"]
    assert len(found(api, "plan=starter&limit=2")) == len(starters) + 1


def test_a_search_for_what_is_rare_reads_a_bounded_part_of_the_table(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.store.subscriptions.SEARCHED_AT_ONCE", 2)
    monkeypatch.setattr("chalicelib.store.subscriptions.MOST_SEARCHED", 4)
    for number in range(7):
        world.subscribe(str(number))
    reply = api.get(f"{SUBSCRIPTIONS}?status=cancelled", ADMIN)
    assert reply.json["subscriptions"] == []
    assert reply.json["next_cursor"] is not None
    assert found(api, "status=cancelled") == []


def test_a_damaged_subscription_is_counted_and_hides_no_other(world: World, api: Api) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id, email="ada@example.com")
    client("dynamodb").update_item(
        TableName=world.settings.subscriptions_table,
        Key={"user_id": {"S": "1"}},
        UpdateExpression="REMOVE version",
    )
    for query in ("email=ada@example.com", "plan=pro"):
        reply = api.get(f"{SUBSCRIPTIONS}?{query}", ADMIN).json
        assert [each["user_id"] for each in reply["subscriptions"]] == ["2"]
        assert reply["unreadable"] == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("email=ada", "email"),
        ("plan=No%20plan", "plan"),
        ("status=asleep", "status"),
        ("timezone=Europe/Pari", "timezone"),
        ("limit=101", "limit"),
        ("cursor=x", "cursor"),
        ("name=ada", "name"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused_by_field(
    world: World, api: Api, query: str, field: str
) -> None:
    assert world.now == at("2026-01-15T12:00:00.250Z")
    reply = api.get(f"{SUBSCRIPTIONS}?{query}", ADMIN)
    assert reply.status == 400
    assert [error["field"] for error in reply.json["errors"]] == [field]


def test_a_cursor_is_of_the_search_that_it_came_from(world: World, api: Api) -> None:
    world.subscribe("1")
    world.subscribe("2")
    cursor = api.get(f"{SUBSCRIPTIONS}?plan=pro&limit=1", ADMIN).json["next_cursor"]
    assert api.get(f"{SUBSCRIPTIONS}?plan=starter&cursor={cursor}", ADMIN).status == 400
    shared = "email=ada@example.com"
    for user_id in ("3", "4"):
        world.subscribe(user_id, email="ada@example.com")
    cursor = api.get(f"{SUBSCRIPTIONS}?{shared}&limit=1", ADMIN).json["next_cursor"]
    for other in ("email=eva@example.com", f"{shared}&plan=pro", "limit=1"):
        assert api.get(f"{SUBSCRIPTIONS}?{other}&cursor={cursor}", ADMIN).status == 400


def test_a_page_has_twenty_users_or_the_emails_about_twenty_entries(world: World, api: Api) -> None:
    for number in range(21):
        world.subscribe(f"u{number}")
        world.grant("u0", 1, str(number), notify=number > 0)
    assert len(api.get(SUBSCRIPTIONS, ADMIN).json["subscriptions"]) == 20
    page = api.get(f"{SUBSCRIPTIONS}/u0/emails", ADMIN).json
    assert len(page["items"]) == 20
    cursor = page["next_cursor"]
    assert api.get(f"{SUBSCRIPTIONS}/u0/emails?cursor={cursor}", ADMIN).json["items"] == []
    other = api.get(f"{SUBSCRIPTIONS}/u1/emails?cursor={cursor}", ADMIN)
    assert [error["field"] for error in other.json["errors"]] == ["cursor"]


def use(world: World, amount: int) -> None:
    on_request.use_credits(world.services, "1", amount, "Export", caller="shop", key="k")


# --- Emails -------------------------------------------------------------------------------------


def emails(api: Api, user_id: str = "1", query: str = "") -> list[tuple[str, str, str]]:
    """Type, transaction and state of the emails on a page."""
    reply = api.get(f"{SUBSCRIPTIONS}/{user_id}/emails{query}", ADMIN)
    assert reply.status == 200, reply.text
    return [(each["type"], each["transaction_id"], each["state"]) for each in reply.json["items"]]


def test_a_users_emails_are_listed_newest_first_with_what_became_of_them(
    world: World, api: Api
) -> None:
    world.subscribe("1", language="de")
    world.grant("1", 100, "gift", expires_in_days=2)
    world.queue_mails()
    world.send_mails()
    world.grant("1", 20, "more")
    world.grant("1", 5, "silent", notify=False)
    assert emails(api) == [("manual", "1-2", "unrecorded"), ("manual", "1-1", "sent")]
    first = api.get(f"{SUBSCRIPTIONS}/1/emails", ADMIN).json["items"][1]
    assert first["sent_at"] == "2026-01-15T12:00:00.250Z"
    assert first["subject"] == world.outbox.sent[0].subject
    assert "100 Credits" in first["subject"]


def test_a_page_of_emails_looks_at_some_entries_and_the_cursor_leads_to_the_others(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    for number in range(3):
        world.grant("1", 10, f"gift-{number}", notify=number != 1)
    listed = []
    cursor = ""
    for _ in range(3):
        reply = api.get(f"{SUBSCRIPTIONS}/1/emails?limit=1{cursor}", ADMIN).json
        listed.append([each["transaction_id"] for each in reply["items"]])
        cursor = f"&cursor={reply['next_cursor']}"
    assert listed == [["1-3"], [], ["1-1"]]
    assert reply["next_cursor"] is None


def test_a_reminder_is_listed_once_it_is_recorded(world: World, api: Api) -> None:
    world.subscribe("1", plan="starter")
    world.now = at("2026-02-01T08:00:00.250Z")
    world.allocate_at("2026-01-31T23:00:00Z")
    assert [kind for kind, _, _ in emails(api)] == ["allocation"]
    entry = world.history()[-1]
    assert entry.granted_batch
    assert entry.granted_batch.expires_at
    identity = notifications.of_expiring_soon("1", entry.granted_batch.expires_at)
    world.services.mail_records.once(identity, lambda: {"kind": "expiring_soon"})
    world.grant("1", 5, "at the same instant", expires_in_days=29, notify=False)
    found = api.get(f"{SUBSCRIPTIONS}/1/emails", ADMIN).json["items"]
    assert [tuple(each[name] for name in ("type", "state", "subject")) for each in found] == [
        ("allocation", "unrecorded", "Your February credits are here"),
        ("expiring_soon", "sent", None),
    ]
    assert {each["posted_at"] for each in found} == {"2026-02-01T08:00:00.250Z"}
    assert {each["transaction_id"] for each in found} == {"1-1"}


def test_of_an_email_about_credits_whose_grant_cannot_be_read_the_subject_is_unknown(
    world: World, api: Api
) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at("2026-01-31T23:00:00Z")
    world.expire_at("2026-03-02T23:00:00Z")
    damage_entry(newer, number=1)
    (found,) = api.get(f"{SUBSCRIPTIONS}/1/emails?limit=1", ADMIN).json["items"]
    assert (found["type"], found["subject"]) == ("expiration", None)


def test_an_email_in_doubt_and_one_whose_record_is_damaged_are_named_so(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    for number in (1, 2):
        world.grant("1", 10, f"gift-{number}")
        entry = world.history()[-1]
        identity = notifications.of_entry(notifications.MailKind.MANUAL, entry)
        item = {"id": {"S": record_id(identity)}, "status": {"S": "INPROGRESS"}}
        kept = {"expiration": {"N": "1800000000"}} if number == 1 else {}
        client("dynamodb").put_item(TableName=world.settings.mails_table, Item=item | kept)
    assert emails(api) == [("manual", "1-2", "unreadable"), ("manual", "1-1", "in_doubt")]


def test_emails_of_an_erased_user_are_listed_still_and_those_of_nobody_are_not_found(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    world.grant("1", 10, "gift")
    world.services.subscriptions.remove("1")
    assert emails(api) == [("manual", "1-1", "unrecorded")]
    assert api.get(f"{SUBSCRIPTIONS}/2/emails", ADMIN).status == 404


def test_the_preview_of_an_email_is_what_was_sent_but_for_its_links(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 100, "gift")
    world.queue_mails()
    world.send_mails()
    (sent,) = world.outbox.sent
    world.grant("1", 7, "later")
    seen = api.get("/api/credits/transactions/1-1/email", ADMIN).json
    assert (seen["type"], seen["subject"]) == ("manual", sent.subject)
    for said, shown in ((sent.text, seen["text"]), (sent.html, seen["html"])):
        links = re.compile(r'https://[^\s"<]*(unsubscribe|invalid)[^\s"<]*')
        assert links.sub("", said) == links.sub("", shown)
        assert world.settings.unsubscribe_url not in shown
        assert "token=" not in shown


def test_what_calls_for_no_email_has_no_preview(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 100, "gift", notify=False)
    for entry in ("1-1", "1-2", "nobody-1", "x"):
        reply = api.get(f"/api/credits/transactions/{entry}/email", ADMIN)
        assert (reply.status, reply.json["code"]) == (404, "not_found")
    reply = api.get("/api/credits/transactions/1-1/email", ADMIN)
    assert reply.json["detail"] == "transaction 1-1 calls for no email"


def test_an_email_that_two_usages_call_for_is_listed_with_the_one_that_it_told(
    world: World, api: Api
) -> None:
    """Credits given back arm no second email about a low balance."""
    world.with_plans("pro", low_balance_threshold=50)
    world.subscribe("1")
    world.grant("1", 500, "gift", notify=False)
    use(world, 460)
    on_request.reverse_usage(world.services, "1", "1-2", 20, "Oops", caller="shop", key="r")
    on_request.use_credits(world.services, "1", 30, "Export", caller="shop", key="again")
    world.queue_mails()
    assert world.send_mails() == []
    (sent,) = world.outbox.sent
    (listed,) = api.get(f"{SUBSCRIPTIONS}/1/emails", ADMIN).json["items"]
    assert (listed["state"], listed["transaction_id"]) == ("sent", "1-2")
    assert listed["subject"] == sent.subject == "40 credits left"


@pytest.mark.parametrize("amount", [485, 100])
def test_a_usage_has_an_email_if_it_takes_the_balance_below_the_threshold(
    world: World, api: Api, amount: int
) -> None:
    world.with_plans("pro", low_balance_threshold=50)
    world.subscribe("1")
    world.grant("1", 500, "gift", notify=False)
    use(world, amount)
    reply = api.get("/api/credits/transactions/1-2/email", ADMIN)
    if amount == 485:
        assert reply.json["subject"] == "15 credits left"
        assert emails(api) == [("low_balance", "1-2", "unrecorded")]
    else:
        assert reply.status == 404
        assert emails(api) == []


# --- Events -------------------------------------------------------------------------------------


def test_the_events_of_an_entry_are_those_that_are_published(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 100, "gift")
    world.services.settings = world.services.settings._replace(low_balance=50)
    use(world, 100)
    account = world.services.ledger.account("1")
    assert account.last
    published = events_of(account.last, account.last_hash, 50)
    world.now += timedelta(hours=1)
    world.grant("1", 7, "later")
    seen = api.get("/api/credits/transactions/1-2/events", ADMIN).json["events"]
    assert [each["name"] for each in seen] == [
        "credits.used",
        "credits.balance_low",
        "credits.exhausted",
    ]
    assert [each["detail"] for each in seen] == [dict(each.detail) for each in published]
    assert {each["at"] for each in seen} == {"2026-01-15T12:00:00.250Z"}
    assert api.get("/api/credits/transactions/1-4/events", ADMIN).status == 404
    world.subscribe("auth0|ann", email="ann@example.com")
    world.grant("auth0|ann", 60, "ann")
    of_ann, _ = api.get("/api/credits/transactions/auth0%7Cann-1/events", ADMIN).json["events"]
    assert of_ann["detail"]["user_id"] == "auth0|ann"


# --- Months -------------------------------------------------------------------------------------


def test_a_month_is_shown_moment_by_moment_as_it_was_counted(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    zones = ("Asia/Tokyo", "Europe/Berlin", "Europe/Paris")
    monkeypatch.setattr("chalicelib.domain.calendar.zone_names", lambda: zones)
    world.subscribe("1", timezone="Asia/Tokyo")
    world.subscribe("2", timezone="Europe/Paris")
    world.subscribe("3", timezone="Europe/Berlin")
    world.allocate_at("2026-01-31T15:00:00Z")
    world.now = at("2026-02-02T13:30:00Z")
    assert api.get("/api/months/2026-02", ADMIN).status == 404
    completeness.start_checks(world.services, {"period": "2026-02"})
    world.drain()
    month = api.get("/api/months/2026-02", ADMIN).json
    assert (month["complete"], month["due"], month["allocated"]) == (False, 3, 1)
    assert month["missing_users"] == ["3", "2"]
    assert month["counted_at"] == "2026-02-02T13:30:00Z"
    assert [
        (each["starts_at"], [(zone["timezone"], zone["missing"]) for zone in each["zones"]])
        for each in month["instants"]
    ] == [
        ("2026-01-31T15:00:00Z", [("Asia/Tokyo", 0)]),
        ("2026-01-31T23:00:00Z", [("Europe/Berlin", 1), ("Europe/Paris", 1)]),
    ]


def test_a_count_of_some_zones_is_not_that_of_the_month(world: World, api: Api) -> None:
    world.subscribe("1")
    world.now = at("2026-02-02T13:30:00Z")
    completeness.start_checks(world.services, {"period": "2026-02", "zones": ["Europe/Paris"]})
    world.drain()
    assert api.get("/api/months/2026-02", ADMIN).status == 404


def test_users_of_zones_that_nobody_knows_come_last(world: World, api: Api) -> None:
    report = {
        "counted_at": "2026-02-02T13:30:00Z",
        "by_zone": {
            "unknown": Tally.unchecked_of("9").values(),
            "Europe/Paris": Tally(1, 1).values(),
        },
    }
    key = months.key_of(Period(2026, 2))
    world.services.reports.put(key, json.dumps(report))
    month = api.get("/api/months/2026-02", ADMIN).json
    assert (month["complete"], month["unchecked_users"]) == (False, ["9"])
    assert month["counted_at"] == "2026-02-02T13:30:00Z", "whenever it is read"
    assert [each["starts_at"] for each in month["instants"]] == ["2026-01-31T23:00:00Z", None]


@pytest.mark.parametrize("text", ["{}", "x", "[]", '{"by_zone": {"UTC": {}}}'])
def test_a_damaged_report_is_named(world: World, api: Api, text: str) -> None:
    world.services.reports.put(months.key_of(Period(2026, 2)), text)
    reply = api.get("/api/months/2026-02", ADMIN)
    assert (reply.status, reply.json["code"]) == (500, "unreadable")


def test_a_month_is_written_like_a_month(api: Api) -> None:
    reply = api.get("/api/months/2026-13", ADMIN)
    assert [error["field"] for error in reply.json["errors"]] == ["period"]


# --- Operations ---------------------------------------------------------------------------------


def test_queues_and_alarms_are_shown_and_what_does_not_answer_is_null(
    world: World, api: Api
) -> None:
    for queue, messages in (("sweeps", 3), ("sweeps-dlq", 1)):
        for _ in range(messages):
            world.sqs.send_message(QueueUrl=world.queue_url(queue), MessageBody="x")
    seen = api.get("/api/operations", ADMIN).json
    assert seen["queues"] == [
        {"name": "sweeps", "holds_dead_letters": False, "waiting": 3, "in_flight": 0},
        {"name": "sweeps-dlq", "holds_dead_letters": True, "waiting": 1, "in_flight": 0},
    ]
    failures: list[Exception] = [
        EndpointConnectionError(endpoint_url="https://monitoring"),
        ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "Look"),
    ]
    for broken, gone in product(("get_queue_attributes", "describe_alarms"), failures):
        fails = Mock(**{f"{broken}.side_effect": gone})
        fails.describe_alarms.return_value = {"MetricAlarms": []}
        is_queues = broken == "get_queue_attributes"
        sqs = fails if is_queues else client("sqs")
        world.services.upkeep = Upkeep(world.settings, sqs, fails)
        seen = api.get("/api/operations", ADMIN).json
        assert seen["alarms"] == ([] if is_queues else None)
        assert [each["waiting"] for each in seen["queues"]] == (
            [None, None] if is_queues else [3, 1]
        )


def test_support_sees_whether_anything_is_sent_at_all(world: World, api: Api) -> None:
    for until, is_one in ((NEVER_A_SHADOW, False), (STILL_A_SHADOW, True), (world.now, False)):
        world.services.settings = world.services.settings._replace(shadow_until=until)
        assert api.get("/api/operations", ADMIN).json["shadow"] is is_one


def test_only_the_alarms_of_the_stage_that_ring_are_asked_for(world: World) -> None:
    cloudwatch = Mock(**{"describe_alarms.return_value": {"MetricAlarms": []}})
    assert Upkeep(world.settings, Mock(), cloudwatch).ringing() == []
    assert cloudwatch.describe_alarms.call_args.kwargs == {
        "AlarmNamePrefix": "credits-dev-",
        "AlarmTypes": ["MetricAlarm"],
        "StateValue": "ALARM",
        "MaxRecords": 100,
    }


def test_a_look_at_queues_and_alarms_waits_for_less_than_work_does(world: World) -> None:
    seen = Upkeep(world.settings)
    for asked, reads, attempts in (
        (seen._sqs, 2, 1),
        (seen._cloudwatch, 2, 1),
        (Queues(world.settings)._client, 5, 4),
    ):
        config = asked.meta.config
        assert (config.connect_timeout, config.read_timeout) == (2, reads)
        assert config.retries["total_max_attempts"] == attempts


def test_messages_that_are_delayed_wait_and_those_that_are_handled_do_not(world: World) -> None:
    counted = {"": "1", "Delayed": "2", "NotVisible": "4"}
    attributes = {f"ApproximateNumberOfMessages{name}": each for name, each in counted.items()}
    sqs = Mock(**{"get_queue_attributes.return_value": {"Attributes": attributes}})
    found = Upkeep(world.settings, sqs, Mock()).depths()
    assert [(each.name, each.waiting, each.in_flight) for each in found] == [
        ("sweeps", 3, 4),
        ("sweeps-dlq", 3, 4),
    ]


def test_alarms_that_ring_are_named_without_the_stage_and_stand_in_the_order_of_their_names(
    world: World, api: Api
) -> None:
    ringing = [
        {
            "AlarmName": f"credits-dev-{name}",
            "AlarmDescription": f"It rings. See docs/operating.md#{name}",
            "StateUpdatedTimestamp": since,
        }
        for name, since in (("ticks-missing", world.now), ("api-5xx", at("2026-01-15T12:30:00Z")))
    ]
    ringing.append({"AlarmName": "credits-dev-by-hand", "StateUpdatedTimestamp": world.now})
    cloudwatch = Mock(**{"describe_alarms.return_value": {"MetricAlarms": ringing}})
    world.services.upkeep = Upkeep(world.settings, client("sqs"), cloudwatch)
    described, by_hand, also_described = api.get("/api/operations", ADMIN).json["alarms"]
    assert (by_hand["name"], by_hand["meaning"], by_hand["runbook"]) == ("by-hand", "", "")
    assert [described, also_described] == [
        {
            "name": name,
            "meaning": "It rings.",
            "since": since,
            "runbook": f"docs/operating.md#{name}",
        }
        for name, since in (
            ("api-5xx", "2026-01-15T12:30:00Z"),
            ("ticks-missing", "2026-01-15T12:00:00.250Z"),
        )
    ]


@pytest.mark.parametrize("runbook", ["docs/operating.md", "https://wiki.example.com/credits"])
def test_every_alarm_names_a_section_of_the_runbook_as_the_api_reads_it(
    world: World, runbook: str
) -> None:
    for symptom in SYMPTOMS:
        described = Alarm(symptom, Part("sweeps", {})).resource()["Properties"]["AlarmDescription"]
        description = described["Fn::Sub"].replace("${RunbookUrl}", runbook)
        ringing = {"AlarmName": "credits-dev-x", "AlarmDescription": description}
        answer = {
            "MetricAlarms": [{**ringing, "StateUpdatedTimestamp": at("2026-01-01T00:00:00Z")}]
        }
        cloudwatch = Mock(**{"describe_alarms.return_value": answer})
        found = (Upkeep(world.settings, Mock(), cloudwatch).ringing() or [])[0]
        assert found.runbook == f"{runbook}#{symptom.name}"
        assert found.meaning.endswith(".")


# --- Searching a history ------------------------------------------------------------------------


def test_a_history_is_searched_by_its_texts(world: World, api: Api) -> None:
    world.subscribe("1")
    for number, text in enumerate(("Goodwill", "Outage in May", "Weiße Woche")):
        world.grant("1", 10, f"k{number}", description=text)
    body = {"amount": 1, "description": "Export", "metadata": {"campaign": "Outages"}}
    assert api.post("/api/credits/use", user("1"), body, key="u").status == 200

    def lines(query: str) -> list[str]:
        reply = api.get(f"/api/credits/history?user_id=1&{query}", ADMIN)
        assert reply.status == 200, reply.text
        return [item["transaction_id"] for item in reply.json["items"]]

    assert lines("search=OUTAGE") == ["1-4", "1-2"]
    assert lines("search=outage&type=manual") == ["1-2"]
    assert lines("search=WEISSE%20w") == ["1-3"]
    assert lines("search=campaign") == []


def test_a_usage_of_many_is_found_by_each_of_its_items(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 10, "g")
    items = [
        {"key": "a", "amount": 1, "description": "A lead"},
        {"key": "b", "amount": 1, "description": "Rare", "metadata": {"firm": "Acme"}},
    ]
    many = {"user_id": "1", "items": items}
    assert api.post("/api/credits/use-many", BACKEND, many).status == 200
    for text in ("rare", "acme", "lead"):
        reply = api.get(f"/api/credits/history?user_id=1&search={text}", ADMIN)
        assert [item["transaction_id"] for item in reply.json["items"]] == ["1-2"]


def test_a_search_is_a_text_of_some_length_and_its_cursor_its_own(world: World, api: Api) -> None:
    world.subscribe("1")
    for number in range(3):
        world.grant("1", 10, f"k{number}", description=f"Goodwill {number}")
    path = "/api/credits/history?user_id=1&limit=1"
    for text in ("", "%20", "x" * 101, "a%0Ab"):
        reply = api.get(f"{path}&search={text}", ADMIN)
        assert [error["field"] for error in reply.json["errors"]] == ["search"]
    assert api.get(f"{path}&search={'x' * 100}", ADMIN).json["items"] == []
    first = api.get(f"{path}&search=goodwill", ADMIN).json
    cursor = first["next_cursor"]
    second = api.get(f"{path}&search=goodwill&cursor={cursor}", ADMIN).json
    assert [item["transaction_id"] for item in second["items"]] == ["1-2"]
    assert api.get(f"{path}&search=other&cursor={cursor}", ADMIN).status == 400
