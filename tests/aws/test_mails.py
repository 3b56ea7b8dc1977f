"""Users are told, once; and whatever becomes of an email, credits are as they were."""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from chalicelib import metrics
from chalicelib.domain.languages import Language
from chalicelib.domain.notifications import ALL_KINDS, MailKind
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import SuppressedBecause
from chalicelib.messages.notifications import EntryPosted, ExpiringSoon
from chalicelib.operations import on_request
from chalicelib.operations.holds import hold_credits
from chalicelib.product import Product
from chalicelib.store.database import Item
from tests.aws.outbox import THROTTLED, ses_error
from tests.aws.world import BY_TEST, CORRELATION_ID, World, at, client
from tests.simulation.faults import Killed
from tests.wire import silence

MIDNIGHT = "2026-01-31T23:00:00Z"  # the 1st of February in Paris


def use(world: World, amount: int, key: str, user_id: str = "1") -> None:
    on_request.use_credits(world.services, user_id, amount, "Export", caller="shop", key=key)


def tell(world: World) -> list[str]:
    """All the way from the stream to SES; answers what would be in the dead-letter queue."""
    world.queue_mails()
    return world.send_mails()


@pytest.fixture
def ten(world: World) -> World:
    """Ten users with an allocation each, queued for mail."""
    for number in range(10):
        world.subscribe(str(number))
    world.allocate_at(MIDNIGHT)
    world.queue_mails()
    return world


@pytest.fixture
def untouched(ten: World) -> Iterator[World]:
    """The same; at the end the ledger must be what it was."""
    before = ten.lines()
    yield ten
    assert ten.lines() == before


# --- The kinds ----------------------------------------------------------------------------------


def test_an_allocation_is_told_with_its_amount_its_period_and_its_expiry(world: World) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    assert tell(world) == []
    (mail,) = world.outbox.sent
    assert mail.to == "user1@example.com"
    assert mail.subject == "Your February credits are here"
    assert "We added 100 credits for February. Use them through 2 March." in mail.text
    # No line of a date breaks within it, and each is said once.
    assert "through 2\N{NO-BREAK SPACE}March." in mail.html
    for text in (mail.text, mail.html):
        assert "Starter" not in text  # the entry does not say on which plan it was granted
        assert text.count("March") == 1
    assert mail.tags == {"user": b"1".hex(), "kind": "allocation", "correlation": CORRELATION_ID}


def test_what_one_entry_expires_is_told_in_one_email_with_all_batches_in_it(world: World) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    world.now = at("2026-02-01T00:30:00Z")
    world.grant("1", 30, "a", expires_in_days=29, notify=False)
    world.expire_at("2026-03-02T23:00:00Z")
    assert tell(world) == []
    mail = world.outbox.sent[-1]
    assert Counter(mail.kind for mail in world.outbox.sent)["expiration"] == 1
    assert mail.subject == "130 credits expired on 2 March"
    assert mail.text.count("Granted on 1 February: ") == 2


def test_each_expiration_is_told_once_though_the_user_moves_before_the_message_comes_again(
    world: World,
) -> None:
    for timezone, amount in (("Asia/Tokyo", 10), ("Europe/Paris", 20)):
        world.subscribe(plan="starter", timezone=timezone)
        world.grant("1", amount, timezone, expires_in_days=10, notify=False)
    world.zones |= {"Asia/Tokyo", "Europe/Paris"}
    world.expire_at("2026-01-25T15:00:00Z")
    world.expire_at("2026-01-25T23:00:00Z")
    world.queue_mails()
    bodies = world.take("notifications")
    for timezone in ("Asia/Tokyo", "America/New_York", "Pacific/Kiritimati"):
        world.subscribe(timezone=timezone)
        world.services = world.restarted()
        assert world.send_mails(bodies[::-1]) == []
    # The days on which they expired where the user lived when they were granted.
    assert sorted(world.outbox.subjects()) == [
        "10 credits expired on 25 January",
        "20 credits expired on 25 January",
    ]


def test_an_email_says_what_its_entry_says_whatever_the_subscription_says_by_then(
    world: World,
) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id, plan="starter")
    world.allocate_at(MIDNIGHT)
    world.now = at("2026-02-01T00:30:00Z")
    for user_id in ("1", "2"):
        world.grant(user_id, 30, user_id, expires_in_days=29)
        use(world, 5, user_id, user_id)
    world.expire_at("2026-03-02T23:00:00Z")
    world.subscribe("2", timezone="America/Los_Angeles", plan="business")
    assert tell(world) == []
    told: dict[str, set[tuple[str, str]]] = {}
    for mail in world.outbox.sent:
        # The links and the hash are of the user.
        words = re.sub(r"https://\S+", "a link", mail.text)
        words = re.sub(r":[0-9a-f]{12} ", ":a hash ", words)
        told.setdefault(mail.to, set()).add((mail.subject, words))
    stayed, moved = told["user1@example.com"], told["user2@example.com"]
    assert stayed == moved
    assert {subject for subject, _ in moved} == {
        "Your February credits are here",
        "30 credits added to your account",
        "125 credits expired on 2 March",
    }


def test_a_reminder_bears_the_date_of_the_place_where_the_credits_were_granted(
    world: World,
) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    world.subscribe(timezone="America/Los_Angeles")
    world.zones |= {"Europe/Paris"}
    for _ in range(2):
        assert remind(world, "2026-02-27T23:00:00Z") == []
    assert world.outbox.subjects() == ["100 credits expire on 2 March"]


def test_an_expiration_of_more_batches_than_one_read_takes_is_told_with_all_of_them(
    world: World,
) -> None:
    world.subscribe()
    for number in range(101):
        world.grant("1", 1, str(number), expires_in_days=10, notify=False)
    world.expire_at("2026-01-25T23:00:00Z")
    assert tell(world) == []
    (mail,) = world.outbox.sent
    assert mail.subject == "101 credits expired on 25 January"
    assert mail.text.count("Granted on 15 January: 1 credit\n") == 101


def test_the_email_of_a_grant_that_is_gone_is_a_failure_that_stops_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.subscribe()
    world.grant("1", 5, "a", expires_in_days=10, notify=False)
    world.grant("1", 7, "b")
    world.expire_at("2026-01-25T23:00:00Z")
    world.queue_mails()
    key = {"user_id": {"S": "1"}, "entry": {"S": "entry#000000000001"}}
    client("dynamodb").delete_item(TableName=world.settings.ledger_table, Key=key)
    (dead,) = world.send_mails()
    assert json.loads(dead)["number"] == 3
    assert world.outbox.subjects() == ["7 credits added to your account"]
    lines = [vars(record) for record in caplog.records if record.msg == "mail not sent"]
    assert {line["error"] for line in lines} == {"NotFound: user 1 has no transaction 1-1"}


def remind(world: World, time: str) -> list[str]:
    world.expiry_tick(time)
    world.deliver_waiting("sweeps")
    return world.send_mails()


def test_an_email_is_a_witness_of_its_entry_and_a_reminder_of_the_account_that_it_tells(
    world: World,
) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    assert tell(world) == []
    world.subscribe(plan="starter", language="de")
    world.grant("1", 30, "a", expires_in_days=100)
    assert tell(world) == []
    use(world, 40, "a")
    assert remind(world, "2026-02-27T23:00:00Z") == []
    said = ("Entry {} of your statement", *["Eintrag {} in Ihrem Kontoauszug"] * 2)
    lines = world.services.ledger.lines("1")
    for mail, line, words in zip(world.outbox.sent, lines, said, strict=True):
        footer = words.format(f"{line.number}:{line.hash[:12]}")
        assert f"\n{footer}\n" in mail.text
        assert f"<br>\n{footer}</p>" in mail.html


def test_credits_that_expire_in_three_days_are_announced_once_with_what_is_left(
    world: World,
) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    use(world, 40, "a")
    assert remind(world, "2026-02-26T23:00:00Z") == []
    assert world.outbox.sent == []  # four days are not three
    for time in ("2026-02-27T23:00:00Z", "2026-02-27T23:00:00Z", "2026-02-28T00:00:00Z"):
        assert remind(world, time) == []
    (mail,) = world.outbox.sent
    assert mail.subject == "60 credits expire on 2 March"
    assert mail.kind == "expiring_soon"


@pytest.mark.parametrize(("days", "mails"), [(0, 0), (1, 0), (2, 1)])
def test_how_many_days_ahead_is_a_setting_and_zero_is_never(
    world: World, days: int, mails: int
) -> None:
    world.settings = world.settings._replace(expiring_soon_days=days)
    world.services = world.restarted()
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    assert remind(world, "2026-02-28T23:00:00Z") == []
    assert len(world.outbox.sent) == mails


def test_a_reminder_whose_tick_was_lost_comes_a_day_later_and_after_that_no_more(
    world: World,
) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    assert remind(world, "2026-03-01T23:00:00Z") == []
    assert world.outbox.sent == []
    assert remind(world, "2026-02-28T23:00:00Z") == []
    assert world.outbox.subjects() == ["100 credits expire on 2 March"]


def test_credits_that_are_spent_when_the_reminder_is_sent_are_not_announced(world: World) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    world.expiry_tick("2026-02-27T23:00:00Z")
    world.deliver_waiting("sweeps")
    use(world, 100, "a")
    assert world.send_mails() == []
    assert world.outbox.sent == []


def test_a_manual_allocation_and_a_claw_back_are_told_with_the_reason_made_harmless(
    world: World,
) -> None:
    world.subscribe()
    world.grant("1", 50, "a", description="<script>alert(1)</script>", expires_in_days=5)
    world.grant("1", -20, "b", description="Mistake")
    assert tell(world) == []
    granted, taken = world.outbox.sent
    assert granted.subject == "50 credits added to your account"
    assert "<script" not in granted.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in granted.html
    assert "<script>alert(1)</script>" in granted.text
    assert taken.subject == "20 credits taken back from your account"
    assert "Mistake" in taken.text
    assert "30 credits" in taken.text


def test_a_manual_allocation_without_notify_is_not_told_and_is_the_same_request_ever_after(
    world: World,
) -> None:
    world.subscribe()
    silent = world.grant("1", 50, "a", notify=False)
    assert silent["success"]
    assert tell(world) == []
    assert world.outbox.sent == []
    assert world.grant("1", 50, "a", notify=False) == silent
    assert world.grant("1", 50, "a")["error"]["code"] == "idempotency_key_reused"
    assert world.history()[0].silent


def test_a_low_balance_is_told_once_per_crossing_and_again_after_a_grant(world: World) -> None:
    world.subscribe()  # pro: below 50
    world.grant("1", 100, "a", notify=False)
    use(world, 50, "exactly at the threshold")
    use(world, 1, "below it")
    use(world, 1, "further below")
    assert tell(world) == []
    assert world.outbox.subjects() == ["49 credits left"]
    assert "Next credits, as things stand: 500 credits on 1 February" in world.outbox.sent[0].text
    assert "50" not in world.outbox.sent[0].text.replace(
        "500", ""
    )  # whose threshold, no entry says
    world.grant("1", 100, "b", notify=False)
    use(world, 140, "c")
    assert tell(world) == []
    assert world.outbox.subjects() == ["49 credits left", "8 credits left"]


def test_credits_given_back_do_not_arm_the_low_balance_email_again(world: World) -> None:
    world.subscribe()
    world.grant("1", 100, "a", notify=False)
    use(world, 60, "b")
    usage = world.history()[-1].transaction_id
    on_request.reverse_usage(
        world.services, "1", usage, None, "Oops", caller="shop", key="reversal"
    )
    use(world, 70, "c")
    assert tell(world) == []
    assert len(world.outbox.sent) == 1


def test_most_usages_do_not_even_get_into_the_queue(world: World) -> None:
    world.subscribe()
    world.grant("1", 1000, "a", notify=False)
    for number in range(10):
        use(world, 10, str(number))
    world.queue_mails()
    assert world.take("notifications") == []


# --- Wishes -------------------------------------------------------------------------------------


def test_a_user_who_does_not_want_a_kind_gets_all_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world.subscribe(notifications=["manual"])
    world.allocate_at(MIDNIGHT)
    world.grant("1", 5, "a")
    assert tell(world) == []
    assert [mail.kind for mail in world.outbox.sent] == ["manual"]
    use(world, 1, "b")
    for number in (3, 2):
        assert world.deliver_mails([(EntryPosted("1", number).body(), 1)]) == []
    outcomes = [vars(record)["outcomes"] for record in caplog.records if record.msg == "mails"]
    expected = ("not wanted", "sent", "not called for", "sent before")
    assert outcomes == [{outcome: 1} for outcome in expected]


def test_wishes_outlive_a_backend_that_does_not_know_of_them(world: World) -> None:
    world.subscribe(notifications=[])
    world.subscribe(plan="business")
    assert world.services.subscriptions.get("1").notifications == frozenset()
    world.subscribe(notifications=["manual", "allocation"])
    assert world.services.subscriptions.get("1").notifications == {
        MailKind.MANUAL,
        MailKind.ALLOCATION,
    }


def test_an_email_is_in_the_language_of_its_user_and_others_of_the_same_event_in_theirs(
    world: World,
) -> None:
    world.subscribe("1", plan="starter", language="de-AT")
    world.subscribe("2", plan="starter")
    world.allocate_at(MIDNIGHT)
    assert tell(world) == []
    german, english = sorted(world.outbox.sent, key=lambda mail: mail.to)
    assert german.subject == "Ihre Credits für Februar sind da"
    assert "100 Credits erhalten, nutzbar bis einschließlich 2. März." in german.text
    assert '<html lang="de"' in german.html
    assert english.subject == "Your February credits are here"
    assert '<html lang="en"' in english.html


def test_an_email_that_was_sent_is_not_sent_again_in_another_language_or_name(
    world: World,
) -> None:
    world.subscribe(language="de")
    world.allocate_at(MIDNIGHT)
    world.queue_mails()
    (body,) = world.take("notifications")
    assert world.send_mails([body]) == []
    world.subscribe(language="en")
    world.settings = world.settings._replace(product=Product(name="Lighthouse"))
    world.services = world.restarted()
    assert world.send_mails([body]) == []
    assert world.outbox.subjects() == ["Ihre Credits für Februar sind da"]


def test_a_language_stays_until_somebody_names_another_and_one_we_lack_is_english(
    world: World,
) -> None:
    assert world.subscribe().language is Language.ENGLISH
    table, key = world.settings.subscriptions_table, {"user_id": {"S": "1"}}
    assert "language" not in client("dynamodb").get_item(TableName=table, Key=key)["Item"]
    world.subscribe(language="de_CH")
    assert client("dynamodb").get_item(TableName=table, Key=key)["Item"]["language"] == {"S": "de"}
    assert world.subscribe(plan="business").language is Language.GERMAN
    assert world.subscribe(language=None).language is Language.GERMAN
    # A later release wrote one that this one has no texts of: it stays when this one edits.
    client("dynamodb").update_item(
        TableName=table,
        Key=key,
        UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": "language"},
        ExpressionAttributeValues={":value": {"S": "fr"}},
    )
    assert world.services.subscriptions.get("1").language is Language.ENGLISH
    world.subscribe(plan="pro")
    assert client("dynamodb").get_item(TableName=table, Key=key)["Item"]["language"] == {"S": "fr"}


def test_a_subscription_from_before_there_were_emails_wants_all_of_them(world: World) -> None:
    world.subscribe()
    subscription = world.services.subscriptions.get("1")
    assert (subscription.notifications, subscription.suppressed) == (ALL_KINDS, None)
    item = client("dynamodb").scan(TableName=world.settings.subscriptions_table)["Items"][0]
    assert not {"unwanted_mails", "suppressed", "notifications"} & set(item)


def test_an_unknown_kind_is_refused_by_name(world: World) -> None:
    from chalicelib.domain.errors import InvalidInput

    with pytest.raises(InvalidInput, match=r"notifications\[1\]: must be one of allocation"):
        world.subscribe(notifications=["manual", "carrier_pigeon"])


def test_every_email_can_be_ended_with_one_click(world: World) -> None:
    world.subscribe()
    world.grant("1", 5, "a")
    tell(world)
    (mail,) = world.outbox.sent
    link = mail.headers["List-Unsubscribe"]
    assert mail.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert link.strip("<>") in mail.text
    asked = world.services.unsubscribe_links.read(link.strip("<>").partition("token=")[2])
    assert asked == ("1", MailKind.MANUAL)


# --- Bad input and faults -----------------------------------------------------------------------


def forget_address(world: World, user_id: str) -> None:
    subscription = world.services.subscriptions.get(user_id)
    without = replace(subscription, email=None, version=subscription.version + 1)
    world.services.subscriptions.change(user_id, lambda _: without, BY_TEST, world.now)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Everything that was logged, with all its fields."""
    return json.dumps([vars(record) for record in caplog.records], default=str)


def everybody_but(*numbers: int) -> list[str]:
    return [f"user{number}@example.com" for number in range(10) if number not in numbers]


def test_a_user_without_an_address_gets_no_email_and_the_others_are_told(untouched: World) -> None:
    forget_address(untouched, "3")
    assert untouched.send_mails() == []
    assert untouched.outbox.recipients() == everybody_but(3)


def test_an_email_that_found_no_address_is_not_recorded_and_is_sent_when_there_is_one(
    world: World,
) -> None:
    world.subscribe(email=None)
    world.grant("1", 5, "a")
    assert tell(world) == []
    assert world.outbox.sent == []
    world.subscribe(email="user1@example.com")
    assert tell(world) == []  # the stream delivers the entry again
    assert world.outbox.recipients() == ["user1@example.com"]


def test_the_emails_of_a_plan_that_has_left_the_catalogue_are_sent(
    untouched: World,
) -> None:
    plans = tuple(plan for plan in untouched.services.catalogue.plans if plan.id != "pro")
    untouched.services.catalogue = PlanCatalogue(plans)
    assert untouched.send_mails() == []
    assert untouched.outbox.recipients() == everybody_but()


def test_nine_of_ten_calls_throttled_and_still_every_email_is_sent_once(untouched: World) -> None:
    calls = count(1)

    def throttle(_: str) -> None:
        if next(calls) % 10:
            raise ses_error(*THROTTLED)

    untouched.outbox.before = throttle
    assert untouched.send_mails() == []
    assert untouched.outbox.recipients() == everybody_but()
    assert untouched.outbox.calls == 100


def test_a_throttled_email_comes_back_after_delays_that_grow(untouched: World) -> None:
    def throttle(_: str) -> None:
        raise ses_error(*THROTTLED)

    untouched.outbox.before = throttle
    body = EntryPosted("1", 1, CORRELATION_ID).body()
    longest = []
    for receives in (1, 3, 6, 40):
        delays: list[int] = []
        for _ in range(40):
            untouched.deliver_mails([(body, receives)])
            delays += untouched.delays.values()
        unit = untouched.settings.mail_retry_seconds
        longest_of_all = unit * min(360, 2**receives)
        assert max(unit, longest_of_all // 2) <= min(delays)
        assert max(delays) <= longest_of_all
        longest.append(max(delays))
    assert longest == sorted(longest)
    assert untouched.outbox.sent == []


@pytest.mark.parametrize("number", [1, 2], ids=["a subscription", "an entry"])
def test_emails_of_which_dynamodb_says_nothing_come_back_after_delays_that_grow(
    untouched: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Waiting helps: a dead letter after three attempts would be for people to move back."""
    reads = count(1)
    dynamodb = untouched.services.dynamodb
    answered = dynamodb.call

    def call(operation: str, arguments: Any) -> Any:
        if operation == "BatchGetItem" and next(reads) >= number:
            raise silence()
        return answered(operation, arguments)

    bodies = untouched.take("notifications")
    batch = [(body, 5) for body in bodies]
    with monkeypatch.context() as outage:
        outage.setattr(dynamodb, "call", call)
        assert sorted(untouched.deliver_mails(batch)) == sorted(batch)
    unit = untouched.settings.mail_retry_seconds
    assert (
        16 * unit <= min(untouched.delays.values()) <= max(untouched.delays.values()) <= 32 * unit
    )
    assert untouched.send_mails(bodies) == []
    assert untouched.outbox.recipients() == everybody_but()


def test_an_address_that_ses_refuses_for_good_is_reported_and_the_others_are_told(
    untouched: World, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(address: str) -> None:
        if address == "user4@example.com":
            raise ses_error("MessageRejected", 400, f"{address} has control characters")

    untouched.outbox.before = refuse
    assert untouched.send_mails() == [EntryPosted("4", 1, CORRELATION_ID).body()]
    assert untouched.outbox.recipients() == everybody_but(4)
    assert "SES answered 400 MessageRejected" in logged(caplog)
    assert "@" not in logged(caplog)


def test_an_email_in_the_sandbox_waits_for_people_to_mend_that_and_is_then_sent(
    untouched: World, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(address: str) -> None:
        words = f"Email address is not verified. The following identities failed: {address}"
        raise ses_error("MessageRejected", 400, words)

    untouched.outbox.before = refuse
    unit = untouched.settings.mail_retry_seconds
    body = EntryPosted("1", 1, CORRELATION_ID).body()
    untouched.deliver_mails([(body, 30)])
    assert min(untouched.delays.values()) >= 180 * unit
    assert "@" not in logged(caplog)
    untouched.outbox.before = lambda _: None
    untouched.deliver_mails([(body, 31)])
    assert untouched.outbox.recipients() == ["user1@example.com"]


def test_the_same_stream_record_five_times_is_one_email(untouched: World) -> None:
    for _ in range(4):
        untouched.queue_mails()
    assert untouched.send_mails() == []
    assert untouched.outbox.recipients() == everybody_but()


def test_records_out_of_order_are_the_same_emails(world: World) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    for number in range(5):
        world.grant("1", 10 + number, str(number))
    records = world.stream()
    random.Random(1).shuffle(records)
    world.queue_mails(records)
    bodies = world.take("notifications")
    random.Random(2).shuffle(bodies)
    assert world.send_mails(bodies) == []
    assert sorted(world.outbox.subjects()) == sorted(
        ["Your February credits are here"]
        + [f"{10 + number} credits added to your account" for number in range(5)]
    )
    balances = {mail.subject: mail.text for mail in world.outbox.sent}
    assert "110 credits" in balances["10 credits added to your account"]  # as it was then


def die(_: str) -> None:
    raise Killed


def test_a_sender_killed_after_ses_took_the_email_does_not_send_it_again(untouched: World) -> None:
    bodies = untouched.take("notifications")
    untouched.outbox.after = die
    with pytest.raises(Killed):
        untouched.deliver_mails([(bodies[0], 1)])
    untouched.outbox.after = lambda _: None
    untouched.services = untouched.restarted()
    # It was sent, but nobody can know: so it is reported, too.
    assert untouched.send_mails(bodies) == [bodies[0]]
    assert untouched.outbox.recipients() == everybody_but()


def test_a_sender_killed_before_ses_took_the_email_reports_it(untouched: World) -> None:
    bodies = untouched.take("notifications")
    untouched.outbox.before = die
    with pytest.raises(Killed):
        untouched.deliver_mails([(bodies[0], 1)])
    untouched.outbox.before = lambda _: None
    untouched.services = untouched.restarted()
    assert untouched.send_mails(bodies) == [bodies[0]]
    killed = int(json.loads(bodies[0])["user_id"])
    assert untouched.outbox.recipients() == everybody_but(killed)


@pytest.mark.parametrize(
    "lost",
    [
        ReadTimeoutError(endpoint_url="https://ses"),
        ses_error("InternalFailure", 500),
    ],
)
def test_an_email_that_ses_may_have_taken_is_not_sent_again_but_reported(
    untouched: World, lost: Exception
) -> None:
    def lose(address: str) -> None:
        if address == "user7@example.com":
            raise lost

    untouched.outbox.after = lose
    assert untouched.send_mails() == [EntryPosted("7", 1, CORRELATION_ID).body()]
    assert untouched.outbox.recipients() == everybody_but()


@pytest.mark.parametrize(
    "fault",
    [
        EndpointConnectionError(endpoint_url="https://ses"),
        ses_error("ServiceUnavailable", 503),
        ses_error("SendingPausedException", 400),
    ],
)
def test_an_email_that_ses_certainly_has_not_taken_is_sent_later(
    untouched: World, fault: Exception
) -> None:
    failures = iter([fault] * 3)

    def fail(_: str) -> None:
        for error in failures:
            raise error

    untouched.outbox.before = fail
    assert untouched.send_mails() == []
    assert untouched.outbox.recipients() == everybody_but()


def test_without_the_table_of_records_nothing_is_sent_and_all_is_reported(
    untouched: World, capsys: pytest.CaptureFixture[str]
) -> None:
    name = untouched.settings.mails_table
    dynamodb = client("dynamodb")
    table = dynamodb.describe_table(TableName=name)["Table"]
    dynamodb.delete_table(TableName=name)
    bodies = untouched.take("notifications")
    assert sorted(untouched.send_mails(bodies)) == sorted(bodies)
    # Waiting helps, so they come back ever later, as throttled ones do, and not at once.
    unit = untouched.settings.mail_retry_seconds
    metrics.flush()
    capsys.readouterr()
    untouched.deliver_mails([(body, 5) for body in bodies])
    metrics.flush()
    assert f'"MailsFailed":[{len(bodies)}.0]' in capsys.readouterr().out
    assert (
        16 * unit <= min(untouched.delays.values()) <= max(untouched.delays.values()) <= 32 * unit
    )
    assert untouched.outbox.sent == []
    # The table is back, and what was in the dead-letter queue is sent to the sender again.
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=table["KeySchema"],
        AttributeDefinitions=table["AttributeDefinitions"],
    )
    assert untouched.send_mails(bodies) == []
    assert untouched.outbox.recipients() == everybody_but()


@pytest.mark.parametrize(
    "poison",
    [
        "no JSON",
        '{"user_id":"1"}',
        '{"user_id":"1","number":0}',
        '{"user_id":"1","number":1,"email":"ada@example.com"}',
        '{"user_id":"1","expires_at":"tomorrow","as_of":"2026-01-01T00:00:00Z"}',
        EntryPosted("1", 99).body(),
        EntryPosted("nobody", 1).body(),
    ],
)
def test_a_poison_message_ends_in_the_dead_letter_queue_and_its_neighbours_are_sent(
    untouched: World, poison: str
) -> None:
    bodies = untouched.take("notifications")
    assert untouched.send_mails([*bodies[:5], poison, *bodies[5:]]) == [poison]
    assert untouched.outbox.recipients() == everybody_but()


def test_a_user_who_is_gone_is_told_nothing_and_is_no_failure(untouched: World) -> None:
    bodies, gone = untouched.take("notifications"), "3"
    reminder = ExpiringSoon(gone, at("2026-03-01T00:00:00Z"), untouched.now).body()
    untouched.services.subscriptions.remove(gone)
    assert untouched.send_mails([*bodies, reminder]) == []
    assert untouched.outbox.recipients() == everybody_but(int(gone))


def test_a_user_whom_a_read_of_many_overlooks_is_told_all_the_same(
    untouched: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading many at once may lag behind a subscription that was just written."""
    store = untouched.services.subscriptions
    read = store.get_many

    def lagging(user_ids: Iterable[str], *, consistent: bool = False) -> dict[str, Item]:
        return read(user_ids, consistent=True) if consistent else {}

    monkeypatch.setattr(store, "get_many", lagging)
    assert untouched.send_mails() == []
    assert untouched.outbox.recipients() == everybody_but()


def test_an_entry_that_cannot_be_read_does_not_stop_the_stream(untouched: World) -> None:
    untouched.take("notifications")
    records = untouched.stream()
    broken: dict[str, Any] = records[4]["dynamodb"]["NewImage"]
    client("dynamodb").put_item(
        TableName=untouched.settings.ledger_table, Item={**broken, "body": {"S": "{}"}}
    )
    untouched.queue_mails()
    (dead,) = untouched.send_mails()
    assert json.loads(dead)["user_id"] == broken["user_id"]["S"]
    assert len(untouched.outbox.sent) == 9
    client("dynamodb").put_item(TableName=untouched.settings.ledger_table, Item=broken)


def test_no_address_is_in_a_message_a_log_or_a_record(
    ten: World, caplog: pytest.LogCaptureFixture
) -> None:
    ten.services.queues.send_notifications(
        [ExpiringSoon("1", at("2026-03-01T00:00:00Z"), ten.now).body()]
    )
    bodies = ten.take("notifications")
    assert ten.send_mails(bodies) == []
    records = client("dynamodb").scan(TableName=ten.settings.mails_table)["Items"]
    assert len(records) == 10
    assert "mails" in caplog.messages
    for text in (json.dumps(bodies), json.dumps(records), logged(caplog)):
        assert "@" not in text


def test_a_record_is_kept_for_ninety_days(ten: World) -> None:
    before = datetime.now(UTC).timestamp()
    assert ten.send_mails() == []
    records = client("dynamodb").scan(TableName=ten.settings.mails_table)["Items"]
    for record in records:
        kept = float(record["expiration"]["N"]) - before
        # Powertools writes whole seconds, and the emails took a moment.
        assert timedelta(days=90) - timedelta(seconds=2) <= timedelta(seconds=kept)
        assert timedelta(seconds=kept) <= timedelta(days=90, minutes=1)


def test_a_suppressed_address_is_not_written_to_and_another_one_is(world: World) -> None:
    world.subscribe()
    present = world.services.subscriptions.get("1")
    bounced = replace(present, suppressed=SuppressedBecause.BOUNCE, version=present.version + 1)
    world.services.subscriptions.change("1", lambda _: bounced, BY_TEST, world.now)
    world.subscribe(plan="business")
    world.grant("1", 5, "a")
    assert tell(world) == []
    assert world.outbox.sent == []
    world.subscribe(email="new@example.com")
    world.grant("1", 5, "b")
    assert tell(world) == []
    assert [mail.to for mail in world.outbox.sent][-1] == "new@example.com"


# --- Time that passes, and more than one of everything ------------------------------------------


def test_a_reminder_that_comes_after_the_credits_have_expired_is_not_sent(world: World) -> None:
    """It waited in the queue; the sweep that books them out has not come yet either."""
    world.subscribe(plan="starter")
    world.subscribe("2", plan="starter", timezone="America/New_York")
    world.allocate_at(MIDNIGHT)
    world.allocate_at("2026-02-01T05:00:00Z")
    world.expiry_tick("2026-02-27T23:00:00Z")
    world.expiry_tick("2026-02-28T05:00:00Z")
    world.deliver_waiting("sweeps")
    world.now = at("2026-03-03T00:00:00Z")  # Past midnight in Paris, and before it in New York.
    assert world.send_mails() == []
    assert world.outbox.recipients() == ["user2@example.com"]


def test_a_reminder_adds_up_what_expires_at_the_same_midnight_and_is_not_held_beyond_it(
    world: World,
) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    world.now = at("2026-02-01T00:30:00Z")
    for key, amount, days in (("a", 30, 29), ("b", 4, 29), ("c", 500, 200), ("d", 9, 27)):
        world.grant("1", amount, key, expires_in_days=days, notify=False)
    world.now = at("2026-02-27T20:00:00Z")
    seconds = 5 * 24 * 3_600
    hold_credits(world.services, "1", 14, "Crawl", seconds=seconds, caller="shop", key="h")
    assert remind(world, "2026-02-27T23:00:00Z") == []
    (mail,) = world.outbox.sent
    assert mail.subject == "120 credits expire on 2 March"
    assert "Available now, these included: 629 credits" in mail.text


def test_old_connections_are_dropped_before_the_first_email_of_every_event(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An email sent into a connection that died between two events would be one in doubt."""
    happened: list[str] = []
    mailer = world.services.mailer
    monkeypatch.setattr(mailer, "drop_old_connections", lambda: happened.append("dropped"))
    world.outbox.before = happened.append
    for user_id in ("1", "2"):
        world.subscribe(user_id)
        world.grant(user_id, 5, user_id)
    world.queue_mails()
    first, second = world.take("notifications")
    assert world.send_mails([first]) == world.send_mails([second]) == []
    assert [it.partition("@")[2] or it for it in happened] == ["dropped", "example.com"] * 2
    assert world.outbox.recipients() == ["user1@example.com", "user2@example.com"]


def test_every_character_of_a_reason_arrives(world: World) -> None:
    world.subscribe()
    reason = "Günther’s 5 € — 祝 🎁"
    world.grant("1", 5, "a", description=reason)
    assert tell(world) == []
    (mail,) = world.outbox.sent
    assert reason in mail.text
    assert reason in mail.html


def test_each_email_that_failed_comes_back_by_its_own_receipt_after_its_own_delay(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = ses_error("MessageRejected", 400, "user2@example.com is no address")
    fates = {"1": None, "2": refusal, "3": ses_error(*THROTTLED), "4": None}
    for user_id in fates:
        world.subscribe(user_id)
        world.grant(user_id, 5, user_id)

    def meet(address: str) -> None:
        if error := fates[address.removeprefix("user").partition("@")[0]]:
            raise error

    world.outbox.before = meet
    sent, refused, postponed, another = (
        EntryPosted(user_id, 1, "late" if user_id == "3" else "first").body() for user_id in fates
    )
    torn = "{}"
    batch = [(postponed, 5), (sent, 1), (refused, 1), (another, 1), (torn, 2)]
    caplog.set_level("INFO")
    caplog.clear()
    assert world.deliver_mails(batch) == [(postponed, 5), (refused, 1), (torn, 2)]
    unit = world.settings.mail_retry_seconds
    late = world.delays.pop(f"handle 0 of {postponed}")
    assert 16 * unit <= late <= 32 * unit
    assert world.delays == {f"handle 2 of {refused}": unit, f"handle 4 of {torn}": unit}
    lines = [vars(record) for record in caplog.records]
    told = {each["message_id"]: each for each in lines if each["msg"] == "mail not sent"}
    names = ("correlation_id", "user_id", "number", "error", "receives", "again_in_seconds")
    assert told["m4"].pop("error").startswith("InvalidInput: user_id: is required")
    assert {key: tuple(line.get(name) for name in names) for key, line in told.items()} == {
        "m0": ("late", "3", 1, "MailPostponed: SES answered 429 TooManyRequestsException", 5, late),
        "m2": ("first", "2", 1, "MailRefused: SES answered 400 MessageRejected", 1, unit),
        "m4": ("m4", None, None, None, 2, unit),
    }
    mails = [(each["correlation_id"], each["outcomes"]) for each in lines if each["msg"] == "mails"]
    assert mails == [("late", {"failed": 1}), ("first", {"sent": 2, "failed": 1})]


def test_a_reminder_of_credits_from_two_places_bears_the_date_of_the_oldest(world: World) -> None:
    """It is midnight on Kiritimati and on Hawaii at the same instant, and another day."""
    for timezone, amount in (("Pacific/Kiritimati", 5), ("Pacific/Honolulu", 7)):
        world.subscribe(timezone=timezone)
        world.grant("1", amount, timezone, expires_in_days=10)
    reminder = ExpiringSoon("1", at("2026-01-26T10:00:00Z"), world.now).body()
    assert world.send_mails([reminder]) == []
    assert world.outbox.subjects() == ["12 credits expire on 26 January"]
