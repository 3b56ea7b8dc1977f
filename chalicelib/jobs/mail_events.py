"""Handles SES's events about bounces and complaints: such addresses get no more emails.

The events come over SNS and name addresses. We put them into no queue. The logs name only the user
of the email, whom the sender put into a tag of the email.
"""

import json
from collections.abc import Mapping
from typing import Any

from chalicelib.domain.edits import BY_MAIL_EVENTS
from chalicelib.domain.subscriptions import Subscription, SuppressedBecause, suppress
from chalicelib.mails.sending import CORRELATION_TAG, USER_TAG, user_of_tag
from chalicelib.observability import correlated, logger
from chalicelib.services import Services

from .errors import SomeEventsFailed, describe_failure, failures
from .records import Event, note, waiting

FIRST_MESSAGE = "Successfully validated SNS topic for Amazon SES event publishing."
"""SES's first message to a new topic: exactly this text, and not JSON. AWS does not document it;
others have received it (github.com/ope-tech/laravel-ses, issue 10)."""


def suppress_addresses(services: Services, event: Event, context: Any) -> None:
    """Marks the subscriptions whose address bounced for good, or whose owner complained.

    Raises `SomeEventsFailed` after all events have had their turn.
    """
    with waiting(context):
        _suppress(services, event)


def _suppress(services: Services, event: Event) -> None:
    failed = 0
    for record in event["Records"]:
        try:
            message = record["Sns"]["Message"]
            if message != FIRST_MESSAGE:
                _handle(services, json.loads(message))
        except failures() as error:
            failed += 1
            note(error)
            logger().error("mail event failed", error=describe_failure(error))
        except (AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            # Without its text: an unreadable message may well quote an address.
            failed += 1
            logger().error("mail event unreadable", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            failed += 1
            note(error)
    if failed:
        raise SomeEventsFailed(f"{failed} of {len(event['Records'])} events failed")


def _handle(services: Services, event: Mapping[str, Any]) -> None:
    kind = event["eventType"]
    if kind == "Bounce":
        # A full mailbox, or a server that is down, is temporary.
        is_final = event["bounce"]["bounceType"] == "Permanent"
        reason, who = SuppressedBecause.BOUNCE, event["bounce"]["bouncedRecipients"]
    elif kind == "Complaint":
        is_final = event["complaint"].get("complaintFeedbackType") != "not-spam"
        reason, who = SuppressedBecause.COMPLAINT, event["complaint"]["complainedRecipients"]
    else:
        return
    tags = event["mail"]["tags"]
    (tag,) = tags[USER_TAG]
    user_id = user_of_tag(tag)
    (operation,) = tags.get(CORRELATION_TAG) or (None,)
    with correlated(operation):
        logger().info("mail came back", user_id=user_id, because=reason.value, is_final=is_final)
    if not is_final:
        return
    addresses = [recipient["emailAddress"] for recipient in who]

    def decide(present: Subscription) -> Subscription:
        for address in addresses:
            present = suppress(present, address, reason)
        return present

    # A user who was removed needs no mark.
    if services.subscriptions.find(user_id):
        services.subscriptions.change(
            user_id,
            lambda present: decide(present or services.subscriptions.get(user_id)),
            BY_MAIL_EVENTS,
            services.now(),
        )
