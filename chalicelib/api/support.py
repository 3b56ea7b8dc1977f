"""For support staff: finds a user, and shows what happened to their credits.

Everything here only reads, and is for admins. Each request reads a bounded part of the tables.
"""

from contextlib import suppress
from urllib.parse import unquote

from chalicelib.domain import calendar
from chalicelib.domain.addresses import parse_email, same_address
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import Unreadable
from chalicelib.domain.events import events_of
from chalicelib.domain.fields import ENTRY_NUMBER, parse_choice, parse_plan_id, place_of
from chalicelib.domain.instants import format_instant
from chalicelib.domain.subscriptions import Subscription, SubscriptionStatus
from chalicelib.store.database import Item, text
from chalicelib.store.subscriptions import FoundPage, read_subscription
from chalicelib.upkeep import Ringing

from . import cursors
from .answers import Answer, Json, email_line
from .calls import Call, ensure_user, parse_limit

_PAGE = 20

_USER_ID = r"[!-~]{1,128}"


def find_subscriptions(call: Call) -> Answer:
    """The users with an email address; or with a plan, a status or a timezone."""
    call.principal.may_support()
    query = call.query()
    email = query.optional("email", parse_email)
    filters = {
        "plan": query.optional("plan", parse_plan_id),
        "status": query.optional("status", parse_choice(SubscriptionStatus)),
        "timezone": query.optional("timezone", calendar.parse_timezone),
    }
    limit = query.optional("limit", parse_limit) or _PAGE
    cursor = query.optional("cursor", cursors.parse_cursor)
    query.finish()
    wanted = {name: str(value) for name, value in filters.items() if value is not None}
    listing = f"subscriptions {email} {wanted}"
    after = cursors.decode(listing, cursor, _USER_ID)
    if email is None:
        page = call.services.subscriptions.found(wanted, after, limit)
    else:
        page = _with_address(call, email, wanted, after, limit)
    found: list[Subscription] = []
    for item in page.items:
        with suppress(Unreadable):
            found.append(read_subscription(item))
    return Answer(
        {
            # The index lags behind: a user may have another address by now.
            "subscriptions": [
                _found(each) for each in found if email is None or same_address(each.email, email)
            ],
            "unreadable": len(page.items) - len(found),
            "next_cursor": page.last_user_id and cursors.encode(listing, page.last_user_id),
        },
        tells_of=frozenset(each.user_id for each in found),
    )


def _with_address(
    call: Call, email: str, wanted: dict[str, str], after: str | None, limit: int
) -> FoundPage:
    subscriptions = call.services.subscriptions
    page = subscriptions.users_with(email, after, limit)
    stored = subscriptions.get_many(page.user_ids)
    items: list[Item] = [
        stored[user_id]
        for user_id in page.user_ids
        if user_id in stored
        and all(stored[user_id].get(name) == text(value) for name, value in wanted.items())
    ]
    return FoundPage(items, page.last_user_id)


def _found(subscription: Subscription) -> Json:
    return {
        "user_id": subscription.user_id,
        "email": subscription.email,
        "timezone": subscription.timezone,
        "plan": subscription.plan,
        "billing_interval": subscription.billing_interval.value,
        "status": subscription.status.value,
        "started_at": format_instant(subscription.started_at),
    }


def emails(call: Call) -> Answer:
    """The emails about a user's entries, newest first, and what is recorded of each."""
    # Not imported when only searching for users: it renders emails.
    from chalicelib.operations.emails import emails_about

    call.principal.may_support()
    user_id = call.path_user_id()
    query = call.query()
    limit = query.optional("limit", parse_limit) or _PAGE
    cursor = query.optional("cursor", cursors.parse_cursor)
    query.finish()
    listing = f"emails {user_id}"
    position = cursors.decode(listing, cursor, ENTRY_NUMBER.pattern)
    services = call.services
    page = services.ledger.page(user_id, limit, int(position) if position else None)
    ensure_user(services, user_id, has_entries=bool(page.entries or position))
    found = emails_about(services, page.entries, services.subscriptions.find(user_id))
    return Answer(
        {
            "user_id": user_id,
            "items": [email_line(each) for each in found],
            "next_cursor": page.below and cursors.encode(listing, str(page.below)),
        }
    )


def email(call: Call) -> Answer:
    """The email about an entry, as it is or was sent; its links are disabled."""
    from chalicelib.operations.emails import preview

    user_id, number = _entry_of(call)
    services = call.services
    account = services.ledger.account_after(user_id, number)
    mail = preview(services, account, services.subscriptions.find(user_id))
    return Answer(
        {"type": mail.kind.value, "subject": mail.subject, "html": mail.html, "text": mail.text}
    )


def events(call: Call) -> Answer:
    """The events of an entry, as a stage with events publishes them."""
    user_id, number = _entry_of(call)
    account = call.services.ledger.account_after(user_id, number)
    found = events_of(account.entry, account.last_hash, call.services.settings.low_balance)
    return Answer(
        {
            "events": [
                {"name": each.name.value, "at": format_instant(each.at), "detail": each.detail}
                for each in found
            ]
        }
    )


def _entry_of(call: Call) -> tuple[str, int]:
    """The user and the number of the entry in the path. Raises `NotFound`."""
    call.principal.may_support()
    return place_of(unquote(call.without_query().path["transaction_id"]))


def month(call: Call) -> Answer:
    """Who was due for a month and who was allocated, by the latest count."""
    from chalicelib.operations.months import month_of

    call.principal.may_support()
    period = Period.parse(unquote(call.without_query().path["period"]), "period")
    found = month_of(call.services, period)
    return Answer(
        {
            "period": str(period),
            "counted_at": format_instant(found.counted_at),
            "complete": found.together.is_complete,
            **found.together.values(),
            "instants": [
                {
                    "starts_at": each.at and format_instant(each.at),
                    "zones": [
                        {"timezone": zone, **tally.values()} for zone, tally in each.zones.items()
                    ],
                }
                for each in found.instants
            ],
        },
        tells_of=frozenset(
            (
                *found.together.missing_users,
                *found.together.duplicate_users,
                *found.together.unchecked_users,
            )
        ),
    )


def operations(call: Call) -> Answer:
    """The waiting messages, the ringing alarms, and whether anything is sent at all.

    Null stands for what AWS did not answer at once.
    """
    call.principal.may_support()
    services = call.without_query().services
    ringing = services.upkeep.ringing()
    alarms = None if ringing is None else [_alarm(each) for each in ringing]
    return Answer(
        {
            "queues": [
                {
                    "name": each.name,
                    "holds_dead_letters": each.holds_dead_letters,
                    "waiting": each.waiting,
                    "in_flight": each.in_flight,
                }
                for each in services.upkeep.depths()
            ],
            "alarms": alarms,
            "shadow": services.settings.is_quiet(services.now()),
        }
    )


def _alarm(alarm: Ringing) -> Json:
    return {
        "name": alarm.name,
        "meaning": alarm.meaning,
        "since": format_instant(alarm.since),
        "runbook": alarm.runbook,
    }
