"""Every Lambda entry point of Credits, one line each. Nothing is decided here.

The jobs and the code of the routes are imported when they run, not when this file is: a cold start
then loads only the modules of one function, and packaging the app needs none.
"""

import gc
from typing import Any

from chalice.app import AuthRequest, Chalice, DynamoDBEvent, SNSEvent, SQSEvent

from chalicelib.api.cors import answer_browsers
from chalicelib.api.routes import blueprint
from chalicelib.invocations import observe
from chalicelib.services import services
from chalicelib.settings import TOKEN_ANSWER_SECONDS

# Modules and answers are many objects and no garbage: collecting took a tenth of a cold start.
gc.set_threshold(50_000)

app = Chalice(app_name="credits", configure_logs=False)

Json = dict[str, Any]

app.register_middleware(observe, "all")


@app.authorizer(name="authorizer", ttl_seconds=TOKEN_ANSWER_SECONDS)
def authorizer(request: AuthRequest) -> Json:
    """Who is calling the API, by the token that came with the request."""
    from chalicelib.api.authorizer import authorize

    return authorize(request.token, request.method_arn)


app.register_blueprint(blueprint(authorizer))
app.register_middleware(answer_browsers, "http")

# The two ticks are plain functions, and infra/resources.yaml gives them their schedule. Chalice's
# own schedule wrapper demands every key of an EventBridge event. But an admin who replays a moment
# sends {"time": "2027-02-01T05:00:00Z", "zones": ["America/New_York"]} and wants the answer back.


@app.lambda_function(name="allocation-tick")
def allocation_tick(event: Json, context: Any) -> Json:
    """Start the allocation sweep of every timezone in which a month has begun."""
    from chalicelib.jobs.ticks import start_sweeps
    from chalicelib.messages.work import SweepKind

    return start_sweeps(services(), SweepKind.ALLOCATION, event)


@app.lambda_function(name="expiry-tick")
def expiry_tick(event: Json, context: Any) -> Json:
    """Start the expiry sweep of every timezone in which a day has begun."""
    from chalicelib.jobs.ticks import start_sweeps
    from chalicelib.messages.work import SweepKind

    return start_sweeps(services(), SweepKind.EXPIRY, event)


@app.on_sqs_message(queue="sweeps", name="sweep-zone")
def sweep_zone(event: SQSEvent) -> Json:
    """Page through one timezone's index and hand its users on to the workers."""
    from chalicelib.jobs.sweeps import sweep_zones

    return sweep_zones(services(), event.to_dict(), event.context)


@app.on_sqs_message(queue="allocations", name="allocate-accounts")
def allocate_accounts(event: SQSEvent) -> Json:
    """Post the allocations due to the users named in the messages."""
    from chalicelib.jobs import workers

    return workers.allocate_accounts(services(), event.to_dict(), event.context)


@app.on_sqs_message(queue="expiries", name="expire-batches")
def expire_batches(event: SQSEvent) -> Json:
    """Post the expiration of the credit batches that are past their end."""
    from chalicelib.jobs import workers

    return workers.expire_batches(services(), event.to_dict(), event.context)


@app.lambda_function(name="manual-allocate")
def manual_allocate(event: Json, context: Any) -> Json:
    """Grant or claw back credits by hand, in an admin's name."""
    from chalicelib.jobs import manual

    return manual.manual_allocate(services(), event, context)


# A function of its own, so that the public can reach only one more secret. The packaging gives it
# its route, POST /api/webhooks/stripe, if stripe.toml names any price.
@app.lambda_function(name="stripe-webhook")
def stripe_webhook(event: Json, context: Any) -> Json:
    """Handle Stripe's reports of customers, subscriptions and payments."""
    from chalicelib.api import stripe

    return stripe.receive(services(), event, context)


@app.lambda_function(name="check-completeness")
def check_completeness(event: Json, context: Any) -> Json:
    """Start the count of who was due for a period and who was allocated."""
    from chalicelib.jobs import completeness

    return completeness.start_checks(services(), event)


@app.on_sqs_message(queue="checks", name="check-zone")
def check_zone(event: SQSEvent) -> Json:
    """Count one timezone for a period, and write the result."""
    from chalicelib.jobs import completeness

    return completeness.check_zones(services(), event.to_dict(), event.context)


@app.lambda_function(name="audit-ledgers")
def audit_ledgers(event: Json, context: Any) -> Json:
    """Walk a sample of the ledgers, or the requested ones, and name what is wrong."""
    from chalicelib.jobs import audits

    return audits.audit_ledgers(services(), event, context)


# infra/resources.yaml replaces this name by the ledger's own stream.
@app.on_dynamodb_record(stream_arn="ledger", name="queue-notifications")
def queue_notifications(event: DynamoDBEvent) -> None:
    """Enqueue the emails and events of new entries, from the ledger's stream."""
    from chalicelib.jobs import outbox

    outbox.queue_notifications(services(), event.to_dict())


@app.on_dynamodb_record(stream_arn="ledger", name="watch-ledger")
def watch_ledger(event: DynamoDBEvent) -> None:
    """Report every change of the ledger's items, and keep the heads of its users."""
    from chalicelib.jobs.watching import watch_ledger

    watch_ledger(services(), event.to_dict())


@app.on_sqs_message(queue="notifications", name="send-notifications")
def send_notifications(event: SQSEvent) -> Json:
    """Send the emails that the messages request, each of them once."""
    from chalicelib.jobs import notifications

    return notifications.send_notifications(services(), event.to_dict(), event.context)


@app.on_sqs_message(queue="events", name="publish-events")
def publish_events(event: SQSEvent) -> Json:
    """Publish the events in the messages."""
    from chalicelib.jobs import events

    return events.publish_events(services(), event.to_dict())


@app.on_sns_message(topic="mail-events", name="mail-events")
def mail_events(event: SNSEvent) -> None:
    """Stop writing to addresses that bounced, or whose owner complained."""
    from chalicelib.jobs.mail_events import suppress_addresses

    suppress_addresses(services(), event.to_dict(), event.context)
