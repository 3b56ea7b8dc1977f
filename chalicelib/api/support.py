"""What those who answer users need: to find a user, and to see what became of their credits.

All of it reads, and is for admins. Each request reads a bounded part of the tables.
"""

from contextlib import suppress

from chalicelib.domain import calendar
from chalicelib.domain.addresses import parse_email, same_address
from chalicelib.domain.errors import Unreadable
from chalicelib.domain.fields import parse_choice, parse_plan_id
from chalicelib.domain.instants import format_instant
from chalicelib.domain.subscriptions import Subscription, SubscriptionStatus
from chalicelib.store.database import Item, text
from chalicelib.store.subscriptions import FoundPage, read_subscription

from . import cursors
from .answers import Answer, Json
from .calls import Call, parse_limit

_PAGE = 20

_USER_ID = r"[!-~]{1,128}"


def find_subscriptions(call: Call) -> Answer:
    """Whose email address it is; or who has this plan, status or timezone."""
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
            # The index lags behind: one may have another address by now.
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
