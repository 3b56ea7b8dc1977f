"""Handles each event of Stripe's. Every event can come twice, late, and before its cause.

So we do not remember events as such. The content of an event is stored in the same write as its
effect: a subscription with its contracts, the credits of a payment under the payment's own name.
Only refunds of a payment are added up in a table of their own, because the ledger is told their
sum. Whichever of purchase and refund comes first, one finds the other:

    refund    writes what it says    asks whether the payment has bought       takes back
    purchase  buys                   asks what was written of the payment      takes back
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from chalicelib.domain import calendar
from chalicelib.domain.addresses import parse_email
from chalicelib.domain.billing import MOST_CONTRACTS, Newcomer, reported, with_report
from chalicelib.domain.edits import Editor, EditorKind
from chalicelib.domain.errors import InvalidInput, NotAllowed, NotFound
from chalicelib.domain.fields import USER_ID_ALPHABET, parse_user_id
from chalicelib.domain.languages import closest
from chalicelib.domain.price_list import PlanPrice
from chalicelib.domain.prices import HIGHEST_PRICE, Price, parse_currency
from chalicelib.domain.subscriptions import Subscription
from chalicelib.domain.taken_back import Seen
from chalicelib.domain.terms import Terms, successor
from chalicelib.operations import purchases
from chalicelib.operations.allocations import save_subscription
from chalicelib.operations.purchases import Purchase
from chalicelib.services import Services
from chalicelib.store.stripe import Customer

from .contracts import read_report
from .errors import Waiting
from .events import Event, Object

ACTOR = "stripe"
"""The actor of purchases and refunds in the ledger."""

TAKEN_BACK = "Refunded or disputed"
"""The ledger's reason for taking credits back; and for giving them back if less is refunded in the
end.
"""

IGNORED = "ignored"
"""The outcome of an event that does not concern us."""


def take_in(services: Services, event: Event) -> str:
    """Handles an event, and returns the outcome in a word.

    Raises `Waiting` if Stripe must send the event again, and `InvalidInput`.
    """
    handle = _HANDLERS.get(event.type)
    return handle(services, event) if handle else IGNORED


# --- Customers ----------------------------------------------------------------------------------


def _customer(services: Services, event: Event) -> str:
    customer = event.object
    locales = customer.texts("preferred_locales")  # the best first
    language = next(filter(None, map(closest, locales)), None)
    user_id = _user_id(customer.metadata("user_id"))
    said = Customer(user_id, _email(customer.text("email")), language)
    _learn(services, customer.key("id"), said, event)
    return "customer"


def _who(
    services: Services, event: Event, customer_id: str | None, said: str | None
) -> tuple[str, Customer]:
    """The user whom an event is about, and what is known of them as a customer.

    Raises `Waiting` if the user is not known yet.
    """
    known = Customer(said)
    if customer_id is not None:
        known = _learn(services, customer_id, known, event)
    if known.user_id is None:
        who = f"customer {customer_id}" if customer_id else "the payment"
        raise Waiting(f"nothing says which user {who} is: metadata.user_id is missing")
    return known.user_id, known


def _learn(services: Services, customer_id: str, said: Customer, event: Event) -> Customer:
    """What is known of a customer, including what an event says.

    A customer is one user, for good: an event that says otherwise would give one person's paid
    credits to another.
    """
    stripe = services.stripe
    before = stripe.customer(customer_id)
    hoped = before.with_more(said)
    _check_user(customer_id, hoped, said)
    if hoped == before:
        return before
    # Before learning, so that a repetition after a crash still finds it new. And again afterwards,
    # in case the user was registered meanwhile, without finding the address.
    _give_news(services, before, hoped, event)
    known = stripe.learn(customer_id, said)
    _check_user(customer_id, known, said)
    _give_news(services, before, known, event)
    return known


def _give_news(services: Services, before: Customer, customer: Customer, event: Event) -> None:
    """Gives an address of which the user was not told before. They may have taken it away since."""
    if (customer.user_id, customer.email) != (before.user_id, before.email):
        _give_address(services, customer, event)


def _check_user(customer_id: str, known: Customer, said: Customer) -> None:
    if said.user_id and known.user_id != said.user_id:
        raise Waiting(
            f"customer {customer_id} is user {known.user_id}, and this says {said.user_id}"
        )


def _give_address(services: Services, customer: Customer, event: Event) -> None:
    """Gives their address to a user whom Stripe registered without one."""
    user_id, email = customer.user_id, customer.email
    if user_id is None or email is None:
        return

    def decide(present: Subscription | None) -> Subscription:
        if present is None:
            raise NotFound(f"there is no user {user_id}")
        if present.email is not None or not present.contracts:
            return present
        terms = replace(Terms.of(present), email=email)
        return successor(present, terms, services.catalogue, services.now())

    # The registration looks for an address afterwards.
    with suppress(NotFound):
        services.subscriptions.change(user_id, decide, _editor(event), services.now())


def _user_id(said: str | None) -> str | None:
    """The user in the team's metadata. Raises `Waiting` for a malformed user id."""
    if said is None:
        return None
    try:
        return parse_user_id("user_id", said)
    except InvalidInput as error:
        # Without the value, which can be an address.
        raise Waiting(f"metadata.user_id must be 1 to 128 {USER_ID_ALPHABET}") from error


def _email(said: str | None) -> str | None:
    """An address that SES can send to; None for any other: a user can do without."""
    try:
        return parse_email("email", said)
    except InvalidInput:
        return None


def _editor(event: Event) -> Editor:
    return Editor(EditorKind.STRIPE, event.id)


# --- Subscriptions ------------------------------------------------------------------------------


def _subscription(services: Services, event: Event) -> str:
    found = event.object
    report = read_report(event, services.price_list)
    if report is None:
        return IGNORED
    customer_id = found.reference("customer")
    user_id, customer = _who(services, event, customer_id, _user_id(found.metadata("user_id")))

    def decide(present: Subscription | None) -> Subscription:
        before = present.contracts if present else ()
        contracts = with_report(before, found.key("id"), event.seen_at, report)
        if present and contracts == before:
            return present
        if len(contracts) > MOST_CONTRACTS:
            raise Waiting(f"user {user_id} has {MOST_CONTRACTS} other subscriptions, none over")
        timezone = _timezone(found, services.price_list.timezone)
        language = closest(found.metadata("language") or "") or customer.language
        newcomer = Newcomer(user_id, customer.email, timezone, language)
        now = services.now()
        return reported(present, newcomer, contracts, event.seen_at, services.catalogue, now)

    saved = save_subscription(services, user_id, decide, _editor(event), is_repeated=True)
    # The address may have become known during the registration. Later edits are decisions of
    # others.
    is_new = saved.subscription.version == 1 and saved.subscription.email is None
    if is_new and customer_id is not None:
        _give_address(services, services.stripe.customer(customer_id), event)
    return "subscription"


def _timezone(subscription: Object, otherwise: str) -> str:
    said = subscription.metadata("timezone")
    return said if said is not None and calendar.is_known(said) else otherwise


# --- Purchases ----------------------------------------------------------------------------------


def _checkout(services: Services, event: Event) -> str:
    """A finished Checkout: it can name the user of a customer, and what was bought."""
    session = event.object
    customer_id = session.reference("customer")
    said = _user_id(session.metadata("user_id") or session.text("client_reference_id"))
    details = session.part("customer_details")
    email = _email((details or session).text("email" if details else "customer_email"))
    if customer_id is not None:
        _learn(services, customer_id, Customer(said, email), event)
    is_paid = session.text("payment_status") in {"paid", "no_payment_required"}
    if session.text("mode") != "payment" or not is_paid:
        return "customer" if customer_id is not None else IGNORED
    payment_id = session.reference("payment_intent") or session.key("id")
    return _buy(services, event, payment_id, said, session.whole("amount_total"))


def _payment_intent(services: Services, event: Event) -> str:
    payment = event.object
    said = _user_id(payment.metadata("user_id"))
    return _buy(services, event, payment.key("id"), said, payment.whole("amount_received"))


def _buy(services: Services, event: Event, payment_id: str, said: str | None, paid: int) -> str:
    """Grants what a payment has bought, and takes back its known refunds."""
    found = event.object
    price = found.metadata("price_id")
    if price is None:
        return IGNORED
    if price not in services.price_list.prices:
        raise Waiting(f"stripe.toml does not have the price {price}")
    bought = services.price_list.prices[price]
    if bought is None or isinstance(bought, PlanPrice):
        return IGNORED
    # Another event reported the payment, perhaps when the price stood for something else.
    if services.ledger.place_of(purchases.operation_of(payment_id)) is None:
        user_id, _ = _who(services, event, found.reference("customer"), said)
        try:
            purchases.buy(
                services,
                Purchase(
                    user_id=user_id,
                    amount=bought.credits,
                    payment_id=payment_id,
                    price=_price(found, paid),
                    expires_in_days=bought.expires_in_days,
                    priority=bought.priority,
                ),
                actor=ACTOR,
            )
        except (NotFound, NotAllowed) as error:
            raise Waiting(str(error)) from error
    _take_back(services, payment_id)
    return "purchase"


def _price(found: Object, paid: int) -> Price | None:
    currency = found.text("currency")
    if currency is None or paid > HIGHEST_PRICE:
        return None
    return Price(paid, parse_currency(f"{found.place}.currency", currency))


# --- Refunds and disputes -----------------------------------------------------------------------


def _charge(services: Services, event: Event) -> str:
    charge = event.object
    amount = charge.whole("amount")
    # An amount that was never collected counts as refunded, too
    # (https://docs.stripe.com/api/charges/capture).
    paid = charge.whole("amount_captured") or amount
    refunded = Seen(event.seen_at, max(0, charge.whole("amount_refunded") - (amount - paid)))
    payment_id = charge.reference("payment_intent") or charge.key("id")
    services.stripe.note(payment_id, lambda known: known.with_charge(paid, refunded))
    return _take_back(services, payment_id)


def _refund(services: Services, event: Event) -> str:
    """A refund's own event: its charge reports the refund; only a failure is new."""
    refund = event.object
    if refund.text("status") not in {"failed", "canceled"}:
        return IGNORED
    payment_id = refund.reference("payment_intent") or refund.reference("charge")
    if payment_id is None:
        return IGNORED
    refund_id, failed = refund.key("id"), Seen(event.seen_at, refund.whole("amount"))
    services.stripe.note(payment_id, lambda known: known.with_failure(refund_id, failed))
    return _take_back(services, payment_id)


def _dispute(services: Services, event: Event) -> str:
    dispute = event.object
    is_withdrawn = event.type == "charge.dispute.funds_withdrawn"
    withdrawn = Seen(event.seen_at, dispute.whole("amount") if is_withdrawn else 0)
    payment_id = dispute.reference("payment_intent") or dispute.key("charge")
    dispute_id = dispute.key("id")
    services.stripe.note(payment_id, lambda known: known.with_dispute(dispute_id, withdrawn))
    return _take_back(services, payment_id)


def _take_back(services: Services, payment_id: str) -> str:
    """Tells the ledger the refunded total of a payment, which may have bought nothing."""
    try:
        purchases.refund_what_is_known(services, payment_id, description=TAKEN_BACK, actor=ACTOR)
    except NotFound:
        return "noted"
    except NotAllowed as error:
        raise Waiting(str(error)) from error
    return "refund"


_HANDLERS: Mapping[str, Callable[[Services, Event], str]] = {
    "customer.created": _customer,
    "customer.updated": _customer,
    "customer.subscription.created": _subscription,
    "customer.subscription.updated": _subscription,
    "customer.subscription.deleted": _subscription,
    "customer.subscription.paused": _subscription,
    "customer.subscription.resumed": _subscription,
    "checkout.session.completed": _checkout,
    "checkout.session.async_payment_succeeded": _checkout,
    "payment_intent.succeeded": _payment_intent,
    "charge.refunded": _charge,
    "refund.updated": _refund,
    "refund.failed": _refund,
    "charge.refund.updated": _refund,
    "charge.dispute.funds_withdrawn": _dispute,
    "charge.dispute.funds_reinstated": _dispute,
}
"""The handler of each type of event. An endpoint is set up for these, and gets no others."""

EVENT_TYPES = tuple(_HANDLERS)
