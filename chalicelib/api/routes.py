"""The routes, one line each. The code behind a route is imported at its first request.

Every function of the app loads this file with `app.py`. So the cold starts of the other functions
only pay for the table of routes.
"""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from chalice.app import Authorizer, Blueprint, Request, Response

if TYPE_CHECKING:
    from .answers import Answer
    from .calls import Call

    View = Callable[[Call], Answer]


class _Route(NamedTuple):
    method: str
    path: str
    view: "View"
    is_public: bool


_ROUTES: list[_Route] = []


def blueprint(authorizer: Authorizer | None = None) -> Blueprint:
    """The routes; all except the public ones are behind ``authorizer``."""
    routes = Blueprint(__name__)
    for route in _ROUTES:
        register = routes.route(
            route.path,
            methods=[route.method],
            name=route.view.__name__,
            authorizer=None if route.is_public else authorizer,
            content_types=["*/*"],  # the reader of a body checks its type
        )
        register(_answering(routes, route.view))
    routes.register_middleware(_dress, "http")
    return routes


def _answering(routes: Blueprint, view: "View") -> Callable[..., Response]:
    @wraps(view)
    def answer(**_: str) -> Response:
        from .exchange import respond

        return respond(routes.current_request, view)

    return answer


def _dress(request: Request, get_response: Callable[[Request], Response]) -> Any:
    from .exchange import dress

    return dress(request, get_response)


def _route(method: str, path: str, *, is_public: bool = False) -> Callable[["View"], "View"]:
    """Puts a view into the table of routes."""

    def add(view: "View") -> "View":
        _ROUTES.append(_Route(method, path, view, is_public))
        return view

    return add


# --- A user's credits ---------------------------------------------------------------------------


@_route("GET", "/api/credits/allocation-schedule")
def allocation_schedule(call: "Call") -> "Answer":
    """When the next credits come, and which expire."""
    from . import account

    return account.allocation_schedule(call)


@_route("GET", "/api/credits/balance")
def balance(call: "Call") -> "Answer":
    """What a user has, batch by batch, now or at a past instant."""
    from . import account

    return account.balance(call)


@_route("GET", "/api/credits/history")
def history(call: "Call") -> "Answer":
    """Everything that happened to a user's credits, newest first."""
    from . import account

    return account.history(call)


@_route("GET", "/api/credits/statement")
def statement(call: "Call") -> "Answer":
    """A user's ledger as it is sealed, for anyone who wants to check it."""
    from . import statements

    return statements.statement(call)


@_route("GET", "/api/credits/explain")
def explanation(call: "Call") -> "Answer":
    """Why credits could be taken at an instant, or could not."""
    from . import explanations

    return explanations.explanation(call)


@_route("GET", "/api/credits/forecast")
def outlook(call: "Call") -> "Answer":
    """When a user's credits will run out."""
    from . import forecasts

    return forecasts.outlook(call)


@_route("POST", "/api/credits/use")
def use(call: "Call") -> "Answer":
    """Spend credits, oldest first."""
    from . import account

    return account.use(call)


@_route("POST", "/api/credits/use-many")
def use_many(call: "Call") -> "Answer":
    """Spend what several usages come to, each once."""
    from . import account

    return account.use_many(call)


@_route("GET", "/api/credits/transactions/{transaction_id}")
def transaction(call: "Call") -> "Answer":
    """An entry of the ledger, with its items."""
    from . import account

    return account.transaction(call)


@_route("GET", "/api/credits/transactions/{transaction_id}/email")
def transaction_email(call: "Call") -> "Answer":
    """The email about an entry of the ledger."""
    from . import support

    return support.email(call)


@_route("GET", "/api/credits/transactions/{transaction_id}/events")
def transaction_events(call: "Call") -> "Answer":
    """The events of an entry of the ledger."""
    from . import support

    return support.events(call)


@_route("POST", "/api/credits/reverse")
def reverse(call: "Call") -> "Answer":
    """Give a usage back, wholly or partly."""
    from . import account

    return account.reverse(call)


# --- Holds --------------------------------------------------------------------------------------


@_route("POST", "/api/credits/holds")
def hold(call: "Call") -> "Answer":
    """Set credits aside."""
    from . import holds

    return holds.hold(call)


@_route("GET", "/api/credits/holds")
def active_holds(call: "Call") -> "Answer":
    """The active holds of a user."""
    from . import holds

    return holds.active(call)


@_route("POST", "/api/credits/holds/{hold_id}/capture")
def capture(call: "Call") -> "Answer":
    """Charge what it came to, and free the rest."""
    from . import holds

    return holds.capture(call)


@_route("POST", "/api/credits/holds/{hold_id}/release")
def release(call: "Call") -> "Answer":
    """Free what is held."""
    from . import holds

    return holds.release(call)


# --- Purchases ----------------------------------------------------------------------------------


@_route("POST", "/api/credits/purchases")
def purchase(call: "Call") -> "Answer":
    """Grant what a payment has bought."""
    from . import purchases

    return purchases.purchase(call)


@_route("POST", "/api/credits/refunds")
def refund(call: "Call") -> "Answer":
    """Take back what was refunded of a payment."""
    from . import purchases

    return purchases.refund(call)


# --- Administration -----------------------------------------------------------------------------


@_route("POST", "/api/credits/allocate")
def allocate(call: "Call") -> "Answer":
    """Grant or claw back credits by hand."""
    from . import administration

    return administration.allocate(call)


@_route("POST", "/api/credits/batches/{batch_id}/void")
def void(call: "Call") -> "Answer":
    """Take back all that is left of one credit batch."""
    from . import administration

    return administration.void(call)


@_route("POST", "/api/credits/allocation-runs")
def allocation_runs(call: "Call") -> "Answer":
    """Run the monthly allocation now, or show what it would do."""
    from . import administration

    return administration.allocation_runs(call)


@_route("GET", "/api/months/{period}")
def month(call: "Call") -> "Answer":
    """Who was due for a month and who was allocated, moment by moment."""
    from . import support

    return support.month(call)


@_route("GET", "/api/operations")
def operations(call: "Call") -> "Answer":
    """What waits in the queues, and which alarms ring."""
    from . import support

    return support.operations(call)


@_route("GET", "/api/subscriptions")
def find_subscriptions(call: "Call") -> "Answer":
    """Whose email address it is, or who has this plan, status or timezone."""
    from . import support

    return support.find_subscriptions(call)


@_route("GET", "/api/subscriptions/{user_id}")
def get_subscription(call: "Call") -> "Answer":
    """A user's subscription."""
    from . import subscriptions

    return subscriptions.get(call)


@_route("PUT", "/api/subscriptions/{user_id}")
def put_subscription(call: "Call") -> "Answer":
    """Register a user, or replace the whole subscription."""
    from . import subscriptions

    return subscriptions.put(call)


@_route("PATCH", "/api/subscriptions/{user_id}")
def patch_subscription(call: "Call") -> "Answer":
    """Change some fields of a subscription."""
    from . import subscriptions

    return subscriptions.patch(call)


@_route("GET", "/api/subscriptions/{user_id}/edits")
def subscription_edits(call: "Call") -> "Answer":
    """Who changed what about a user's subscription."""
    from . import subscriptions

    return subscriptions.edits(call)


@_route("GET", "/api/subscriptions/{user_id}/emails")
def subscription_emails(call: "Call") -> "Answer":
    """The emails about a user's credits, and what became of them."""
    from . import support

    return support.emails(call)


# --- Links in emails ----------------------------------------------------------------------------


@_route("GET", "/api/unsubscribe", is_public=True)
def show_unsubscribe(call: "Call") -> "Answer":
    """The page behind the unsubscribe link of an email."""
    from . import unsubscribe

    return unsubscribe.show(call)


@_route("POST", "/api/unsubscribe", is_public=True)
def post_unsubscribe(call: "Call") -> "Answer":
    """End emails: the page's button, and that of email programs."""
    from . import unsubscribe

    return unsubscribe.unsubscribe(call)


# --- What the product offers, and the API itself ------------------------------------------------


@_route("GET", "/api/plans")
def plans(call: "Call") -> "Answer":
    """The plans on offer."""
    from . import about

    return about.plans(call)


@_route("GET", "/api/health", is_public=True)
def health(call: "Call") -> "Answer":
    """Whether the API is up; touches no table."""
    from . import about

    return about.health(call)


@_route("GET", "/api/openapi.json", is_public=True)
def openapi(call: "Call") -> "Answer":
    """The contract of this API."""
    from . import about

    return about.openapi(call)


# --- The console --------------------------------------------------------------------------------


@_route("GET", "/console", is_public=True)
def console_page(call: "Call") -> "Answer":
    """The page for the people who answer users."""
    from . import console

    return console.page(call)


@_route("GET", "/console/{file}", is_public=True)
def console_file(call: "Call") -> "Answer":
    """A file of that page."""
    from . import console

    return console.file(call)


@_route("GET", "/console/session")
def console_session(call: "Call") -> "Answer":
    """Who has signed in, and what they may do."""
    from . import console

    return console.session(call)
