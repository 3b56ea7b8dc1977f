"""The Python client against the real handlers, and its fake against the same tests."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

import httpx
import pytest
from credits_client import (
    AsyncCredits,
    Contention,
    Credits,
    Forbidden,
    HoldEnded,
    IdempotencyKeyReused,
    InsufficientCredits,
    InvalidInput,
    NotAllowed,
    NotFound,
    OutdatedEdit,
    Price,
    Unauthenticated,
    VersionConflict,
)
from credits_client.testing import AsyncFakeCredits, Books, FakeCredits

from chalicelib.domain.errors import Contention as LostRace
from chalicelib.domain.notifications import MailKind
from tests.aws.api import Api
from tests.aws.in_process import URL, InProcess
from tests.aws.world import World, at


class Grant(Protocol):
    """Grants user 1 credits that live so many days, or for ever."""

    def __call__(self, amount: int, days: int | None, priority: int = 50, /) -> None: ...


@dataclass
class Product:
    """A product's backend, user 1 of it, and what its tests may do to the world."""

    credits: Credits
    twin: Callable[[], AsyncCredits]
    grant: "Grant"
    pass_time: Callable[[timedelta], None]


NOW = at("2026-01-15T12:00:00.250Z")


@pytest.fixture(params=["the app", "the fake"])
def product(request: pytest.FixtureRequest) -> Iterator[Product]:
    if request.param == "the fake":
        books = Books(lambda: NOW)
        books.add_user("1")

        def grant_in_fake(amount: int, days: int | None, priority: int = 50, /) -> None:
            expires_at = None if days is None else books.now + timedelta(days=days)
            books.grant("1", amount, expires_at=expires_at, priority=priority)

        yield Product(
            FakeCredits(books), lambda: AsyncFakeCredits(books), grant_in_fake, books.pass_time
        )
        return
    world: World = request.getfixturevalue("world")
    api: Api = request.getfixturevalue("api")
    world.subscribe("1")
    transport = InProcess(api)

    def grant(amount: int, days: int | None, priority: int = 50, /) -> None:
        world.grant("1", amount, f"grant-{amount}", expires_in_days=days, priority=priority)

    def pass_time(span: timedelta) -> None:
        world.now += span

    with httpx.Client(transport=transport) as http:
        yield Product(
            Credits(URL, "backend", http=http),
            lambda: AsyncCredits(URL, "backend", http=httpx.AsyncClient(transport=transport)),
            grant,
            pass_time,
        )


# --- Using ----------------------------------------------------------------------------------------


def test_a_use_takes_what_was_asked_for(product: Product) -> None:
    product.grant(100, None)
    used = product.credits.use("1", 30, "Report")
    assert (used.new_balance, used.replayed) == (70, False)
    assert used.transaction_id == "1-2"
    assert [(move.batch_id, move.amount) for move in used.batches] == [("1-1", -30)]
    assert product.credits.balance(1).available_balance == 70


def test_what_is_not_covered_is_refused_whole_and_says_what_there_is(product: Product) -> None:
    product.grant(20, None)
    with pytest.raises(InsufficientCredits) as refused:
        product.credits.use("1", 21)
    assert refused.value.available_balance == 20
    assert refused.value.status == 402
    assert product.credits.balance("1").available_balance == 20


def test_the_same_key_is_done_once_and_another_request_under_it_is_refused(
    product: Product,
) -> None:
    product.grant(100, None)
    first = product.credits.use("1", 30, "Report", key="report-7")
    again = product.credits.use("1", 30, "Report", key="report-7")
    assert (again, again.replayed) == (first, True)
    with pytest.raises(IdempotencyKeyReused):
        product.credits.use("1", 31, "Report", key="report-7")
    assert product.credits.balance("1").available_balance == 70


def test_without_a_key_the_same_request_is_another_one(product: Product) -> None:
    product.grant(100, None)
    product.credits.use("1", 30)
    assert product.credits.use("1", 30).new_balance == 40


def test_the_lowest_priority_is_used_first_and_then_the_oldest(product: Product) -> None:
    product.grant(10, None)
    product.grant(11, None)
    product.grant(12, None, 10)
    moved = product.credits.use("1", 24).batches
    assert [(move.batch_id, move.amount) for move in moved] == [
        ("1-3", -12),
        ("1-1", -10),
        ("1-2", -2),
    ]


def test_what_has_expired_cannot_be_used(product: Product) -> None:
    product.grant(10, 3)
    product.grant(20, None)
    first, _ = product.credits.balance("1").batches
    assert first.expires_at is not None
    product.pass_time(timedelta(days=5))
    with pytest.raises(InsufficientCredits) as refused:
        product.credits.use("1", 21)
    assert refused.value.available_balance == 20
    balance = product.credits.balance("1")
    assert (balance.available_balance, balance.ledger_balance) == (20, 30)


def test_somebody_unknown_has_nothing_to_use_or_to_show(product: Product) -> None:
    for ask in (
        lambda: product.credits.use("nobody", 1),
        lambda: product.credits.hold("nobody", 1),
        lambda: product.credits.balance("nobody"),
        lambda: list(product.credits.history("nobody")),
        lambda: product.credits.holds("nobody"),
        lambda: product.credits.transaction("nobody-1"),
        lambda: product.credits.capture("1-77", 1),
        lambda: product.credits.release("no-hold"),
    ):
        with pytest.raises(NotFound):
            ask()


def test_bad_input_names_each_field(product: Product) -> None:
    product.grant(10, None)
    for ask, field in (
        (lambda: product.credits.use("1", 0), "amount"),
        (lambda: product.credits.use("1", 1, " "), "description"),
        (lambda: product.credits.use(None, 1), "user_id"),
        (lambda: product.credits.hold("1", 1, expires_in_seconds=0), "expires_in_seconds"),
        (lambda: product.credits.capture("1-1", -1), "amount"),
    ):
        with pytest.raises(InvalidInput) as refused:
            ask()
        assert [wrong.field for wrong in refused.value.errors] == [field]


def test_many_usages_are_charged_once_each_by_whichever_way(product: Product) -> None:
    product.grant(100, None)
    product.credits.use("1", 2, "A lead", key="lead-7")
    done = product.credits.use_many(
        "1",
        [
            {"key": "lead-7", "amount": 2, "description": "A lead"},
            {"key": "lead-8", "amount": 3, "description": "A lead"},
            {"key": "lead-9", "amount": 4, "description": "A lead", "metadata": {"list": "b"}},
        ],
    )
    assert (done.amount, done.new_balance, done.charged) == (7, 91, ("lead-8", "lead-9"))
    assert [(each.key, each.transaction_id) for each in done.already_charged] == [("lead-7", "1-2")]
    full = product.credits.transaction("1-3")
    assert full.description == "A lead and 1 more"
    assert [(item.key, item.amount, item.metadata) for item in full.items] == [
        ("lead-8", 3, {}),
        ("lead-9", 4, {"list": "b"}),
    ]
    again = product.credits.use_many("1", [{"key": "lead-8", "amount": 3, "description": "A lead"}])
    assert (again.replayed, again.transaction_id, again.new_balance) == (True, None, 91)
    with pytest.raises(IdempotencyKeyReused):
        product.credits.use("1", 5, "A lead", key="lead-8")
    with pytest.raises(InsufficientCredits):
        product.credits.use_many("1", [{"key": "a", "amount": 92, "description": "Much"}])


# --- Holds ----------------------------------------------------------------------------------------


def test_a_capture_uses_what_it_came_to_and_frees_the_rest(product: Product) -> None:
    product.grant(100, None)
    with product.credits.hold("1", 50, "Crawl", key="job-7", metadata={"job": "7"}) as hold:
        assert product.credits.balance("1").available_balance == 50
        (held,) = product.credits.holds("1")
        assert (held.hold_id, held.amount, held.description) == (hold.hold_id, 50, "Crawl")
        assert (held.expires_at, held.metadata) == (hold.expires_at, {"job": "7"})
        captured = hold.capture(31)
    assert (captured.captured, captured.released, captured.new_balance) == (31, 19, 69)
    assert product.credits.holds("1") == ()
    assert product.credits.balance("1").held_balance == 0


def test_a_block_that_raises_releases_its_hold(product: Product) -> None:
    product.grant(100, None)
    with pytest.raises(ZeroDivisionError), product.credits.hold("1", 50):
        raise ZeroDivisionError
    assert product.credits.balance("1").available_balance == 100
    assert [line.type for line in product.credits.history("1")] == ["release", "hold", "manual"]


def test_a_block_that_ends_without_a_capture_releases_its_hold(product: Product) -> None:
    product.grant(100, None)
    with product.credits.hold("1", 50):
        pass
    assert product.credits.balance("1").available_balance == 100


def test_a_hold_that_is_not_covered_holds_nothing(product: Product) -> None:
    product.grant(40, None)
    with pytest.raises(InsufficientCredits), product.credits.hold("1", 41):
        pytest.fail("there is no hold")
    assert product.credits.balance("1").held_balance == 0


def test_the_key_of_a_released_hold_gets_the_first_answer_and_its_capture_is_refused(
    product: Product,
) -> None:
    product.grant(100, None)
    with pytest.raises(ZeroDivisionError), product.credits.hold("1", 50, key="job-7") as first:
        raise ZeroDivisionError
    again = product.credits.hold("1", 50, key="job-7")
    assert (again.answer, again.replayed) == (first.answer, True)
    with pytest.raises(HoldEnded) as refused, again:
        again.capture(31)
    assert refused.value.ended == "released"
    assert refused.value.transaction_id == "1-3"
    assert product.credits.balance("1").available_balance == 100


def test_the_same_end_again_gets_the_first_answer_and_another_end_is_refused(
    product: Product,
) -> None:
    product.grant(100, None)
    hold = product.credits.hold("1", 50)
    first = hold.capture(31)
    again = product.credits.capture(hold.hold_id, 31)
    assert (again, again.replayed) == (first, True)
    for end in (lambda: product.credits.capture(hold.hold_id, 30), hold.release):
        with pytest.raises(HoldEnded) as refused:
            end()
        assert (refused.value.ended, refused.value.transaction_id) == ("captured", "1-3")
    released = product.credits.hold("1", 9).release()
    assert (released.released, released.new_balance) == (9, 69)


def test_a_hold_lapses_by_itself_and_its_block_ends_quietly(product: Product) -> None:
    product.grant(100, None)
    with product.credits.hold("1", 50, expires_in_seconds=60) as hold:
        product.pass_time(timedelta(seconds=59))
        assert product.credits.balance("1").available_balance == 50
        product.pass_time(timedelta(seconds=1))
        assert product.credits.balance("1").available_balance == 100
    with pytest.raises(HoldEnded) as refused:
        hold.capture(1)
    assert (refused.value.ended, refused.value.transaction_id) == ("lapsed", None)
    assert refused.value.ended_at == hold.expires_at


def test_more_than_is_held_needs_to_be_said(product: Product) -> None:
    product.grant(100, None)
    hold = product.credits.hold("1", 50)
    with pytest.raises(NotAllowed):
        hold.capture(60)
    with pytest.raises(InsufficientCredits) as refused:
        hold.capture(101, beyond_hold=True)
    assert refused.value.available_balance == 100
    captured = hold.capture(60, "Crawl", beyond_hold=True, metadata={"job": "7"})
    assert (captured.captured, captured.released, captured.new_balance) == (60, 0, 40)
    (usage,) = product.credits.history("1", type="usage")
    assert (usage.description, usage.metadata) == ("Crawl", {"job": "7"})
    assert [(move.batch_id, move.amount) for move in usage.batches] == [("1-1", -60)]


def test_what_is_held_can_be_captured_after_its_batch_has_expired(product: Product) -> None:
    product.grant(100, 3)
    hold = product.credits.hold("1", 50, expires_in_seconds=20 * 24 * 3600)
    product.pass_time(timedelta(days=5))
    captured = hold.capture(31)
    assert (captured.captured, captured.released, captured.new_balance) == (31, 19, 0)


def test_a_capture_of_nothing_is_a_release(product: Product) -> None:
    product.grant(100, None)
    hold = product.credits.hold("1", 50)
    assert hold.capture(0).released == 50
    assert product.credits.release(hold.hold_id).replayed
    assert product.credits.history_page("1").items[0].type == "release"


# --- Reading --------------------------------------------------------------------------------------


def test_the_history_goes_on_over_all_pages_newest_first(product: Product) -> None:
    product.grant(100, None)
    for amount in range(1, 6):
        product.credits.use("1", amount, metadata={"odd": str(amount % 2)})
    lines = list(product.credits.history("1", limit=2))
    assert [line.amount for line in lines] == [-5, -4, -3, -2, -1, 100]
    assert [line.balance_after for line in lines] == [85, 90, 94, 97, 99, 100]
    pages = list(product.credits.history_pages("1", limit=4))
    assert [len(page.items) for page in pages] == [4, 2]
    assert [page.next_cursor is None for page in pages] == [False, True]
    odd = product.credits.history("1", type="usage", metadata={"odd": "1"}, limit=2)
    assert [line.amount for line in odd] == [-5, -3, -1]


def test_a_line_of_the_history_says_all_that_is_known(product: Product) -> None:
    product.grant(100, None)
    with product.credits.hold("1", 50) as hold:
        hold.capture(31)
    usage, held, granted = product.credits.history("1")
    assert isinstance(usage.posted_at, datetime)
    assert usage.posted_at == usage.effective_at == NOW
    assert (usage.hold_id, usage.released_amount) == (hold.hold_id, 19)
    assert (held.transaction_id, held.amount, held.held_amount) == (hold.hold_id, 0, 50)
    assert (granted.amount, granted.type, granted.hold_id) == (100, "manual", None)
    assert product.credits.transaction(usage.transaction_id).amount == usage.amount


def test_the_balance_shows_batches_and_holds(product: Product) -> None:
    product.grant(60, None)
    product.grant(40, 30)
    with product.credits.hold("1", 70) as hold:
        balance = product.credits.balance("1")
    assert (balance.available_balance, balance.held_balance) == (30, 70)
    assert (balance.ledger_balance, balance.as_of) == (100, NOW)
    assert [(each.granted_amount, each.held_amount) for each in balance.batches] == [
        (60, 60),
        (40, 10),
    ]
    assert [(each.priority, each.source) for each in balance.batches] == [(50, "adjustment")] * 2
    assert [(each.hold_id, each.amount) for each in balance.holds] == [(hold.hold_id, 70)]


# --- Async ----------------------------------------------------------------------------------------


def test_the_async_client_does_the_same(product: Product) -> None:
    product.grant(100, None)

    async def work() -> list[int]:
        async with product.twin() as client:
            async with client.hold("1", 50, key="job-7") as hold:
                await hold.capture(31)
            with pytest.raises(HoldEnded):
                await hold.release()
            with pytest.raises(ZeroDivisionError):
                async with client.hold("1", 50):
                    raise ZeroDivisionError
            other = await client.hold("1", 9)
            await other.release()
            used = await client.use("1", 1)
            assert used.new_balance == (await client.balance("1")).available_balance == 68
            pages = [page async for page in client.history_pages("1", limit=5)]
            assert [len(page.items) for page in pages] == [5, 3]
            return [line.amount async for line in client.history("1", limit=2)]

    assert asyncio.run(work()) == [-1, 0, 0, 0, 0, -31, 0, 100]


# --- What only the app knows ----------------------------------------------------------------------


@pytest.fixture
def app(api: Api) -> Iterator[Callable[[str], Credits]]:
    """Clients of the app, by the name of who calls."""
    with httpx.Client(transport=InProcess(api)) as http:
        yield lambda who: Credits(URL, who, http=http)


def test_a_subscription_is_edited_by_its_version(
    app: Callable[[str], Credits], world: World
) -> None:
    backend = app("backend")
    made = backend.put_subscription(
        "ada|7",
        timezone="America/New_York",
        plan="starter",
        billing_interval="yearly",
        status="active",
        started_at=NOW - timedelta(days=9),
        email="ada@example.com",
        only_new=True,
    )
    assert (made.value.email, made.value.next_credit_allocation) == (
        "ada@example.com",
        date(2026, 2, 1),
    )
    assert "ada@example.com" not in repr(made)
    changed = backend.patch_subscription("ada|7", email=None, status="paused", etag=made.etag)
    assert (changed.value.email, changed.value.status) == (None, "paused")
    assert changed.value.not_allocated_because is not None
    with pytest.raises(VersionConflict):
        backend.patch_subscription("ada|7", status="active", etag=made.etag)
    assert backend.subscription("ada|7") == changed
    edits = list(app("admin").subscription_edits("ada|7", limit=1))
    assert [edit.version for edit in edits] == [2, 1]
    assert {each.field for each in edits[0].changes} == {"email", "status"}
    assert backend.schedule("ada|7").timezone == "America/New_York"
    assert world.services.subscriptions.get("ada|7").email is None


def test_an_admin_grants_reverses_and_runs_allocations(
    app: Callable[[str], Credits], world: World
) -> None:
    world.subscribe("1", eligible_from="2026-01-01")
    admin, backend = app("admin"), app("backend")
    admin.allocate("1", 50, "Goodwill", key="a1", expires_in_days=None)
    admin.allocate("1", 50, "Goodwill", expires_in_days=3, priority=10, source="promotion")
    first, second = admin.balance("1").batches
    assert (first.source, first.expires_at is None) == ("promotion", False)
    assert (second.source, second.expires_at) == ("adjustment", None)
    used = backend.use("1", 60, key="use")
    back = backend.reverse("1", used.transaction_id, 20, description="Came out empty", key="back")
    assert (back.returned_amount, back.new_balance) == (20, 60)
    taken = admin.allocate("1", -100, "Mistake", up_to_available=True)
    assert (taken.amount, taken.new_balance) == (-60, 0)
    preview = list(admin.allocation_preview("2026-01", zones=["Europe/Paris"], limit=1))
    assert [(due.user_id, due.amount) for due in preview] == [("1", 500)]
    assert admin.allocation_run("2026-01", zones=["Europe/Paris"]).sweeps == 1


def test_billing_sells_and_refunds(app: Callable[[str], Credits], world: World) -> None:
    world.subscribe("1")
    billing = app("billing")
    bought = billing.purchase("1", 500, "pi_1", price=Price(amount=4900, currency="EUR"))
    assert billing.purchase("1", 500, "pi_1").replayed
    refunded = billing.refund("pi_1", 200, "Asked for it", observed_at=NOW)
    assert (refunded.taken, refunded.new_balance) == (200, 300)
    with pytest.raises(OutdatedEdit):
        billing.refund("pi_1", 300, "Asked for it", observed_at=NOW - timedelta(hours=1))
    refund, purchase = billing.history("1")
    assert purchase.price == Price(amount=4900, currency="EUR")
    assert (purchase.transaction_id, refund.refunded_amount) == (bought.transaction_id, 200)


def test_a_balance_of_the_past_and_a_history_between_two_instants(
    app: Callable[[str], Credits], world: World
) -> None:
    world.subscribe("1")
    world.grant("1", 10, "g1")
    world.now += timedelta(hours=1)
    world.grant("1", 20, "g2")
    backend = app("backend")
    assert backend.balance("1", at=NOW).available_balance == 10
    found = backend.history("1", since=NOW, until=NOW + timedelta(minutes=1))
    assert [line.amount for line in found] == [10]
    with pytest.raises(ValueError, match="since must be an aware datetime"):
        list(backend.history("1", since=datetime(2026, 1, 1)))  # noqa: DTZ001 - the mistake


def test_what_a_token_does_not_allow_and_no_token_at_all(
    app: Callable[[str], Credits], world: World
) -> None:
    world.subscribe("1")
    with pytest.raises(Forbidden):
        app("billing").use("1", 1)
    with pytest.raises(Unauthenticated):
        app("a stranger").plans()
    assert [plan.id for plan in app("backend").plans()] == ["starter", "pro", "business"]
    assert app("a stranger").health().status == "ok"
    assert app("a stranger").contract()["info"]["title"] == "Credits"


def test_the_links_of_emails_are_followed_without_a_token(
    app: Callable[[str], Credits], world: World
) -> None:
    world.subscribe("1")
    token = world.services.unsubscribe_links.token("1", MailKind.MANUAL)
    assert "<html" in app("nobody").unsubscribe_page(token)
    app("nobody").unsubscribe(token)
    assert "manual" not in app("backend").subscription("1").value.notifications


def test_a_lost_race_is_tried_again_with_the_same_key(
    api: Api, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    world.grant("1", 10, "g1")
    perform = world.services.ledger.perform
    races = [LostRace("the ledger of user 1 is written too often")] * 2

    def perform_later(*words: Any) -> Any:
        if races:
            raise races.pop()
        return perform(*words)

    monkeypatch.setattr(world.services.ledger, "perform", perform_later)
    pauses: list[float] = []
    with httpx.Client(transport=InProcess(api)) as http:
        client = Credits(URL, "backend", http=http, sleep=pauses.append, random=lambda: 0.5)
        assert client.use("1", 4).new_balance == 6
        # What the API asks for, and half of the span.
        assert pauses == [1.125, 1.25]
        races = [LostRace("the same")] * 4
        with pytest.raises(Contention):
            client.use("1", 4)
