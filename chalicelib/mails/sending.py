"""Sends emails through SES, no faster than the account's rate.

SES refuses emails above the rate and does not queue them. It has no idempotency: a request whose
answer is lost may have been carried out, so nothing here is retried.
"""

import threading
import time
from collections.abc import Callable
from email.utils import formataddr
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ProxyConnectionError,
    SSLError,
)

from chalicelib import aws
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import parse_user_id
from chalicelib.observability import correlation_id
from chalicelib.settings import Settings

from .errors import MailInDoubt, MailPostponed, MailRefused
from .rendering import Mail

_NOT_CONNECTED = (
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ProxyConnectionError,
    SSLError,
)

_NOT_NOW = frozenset(
    {
        "AccountSuspendedException",
        "LimitExceededException",
        "MailFromDomainNotVerifiedException",
        "SendingPausedException",
        "Throttling",
        "TooManyRequestsException",
    }
)

_NOT_VERIFIED = "is not verified"
"""SES's words for an identity that waits for its DNS entries and, in the sandbox, for an unverified
recipient: "Email address is not verified. The following identities failed the check" (SES Developer
Guide, Amazon SES email sending errors). People must fix both; another email would fail, too.
"""

_LONGEST_IDLE_SECONDS = 5.0

USER_TAG = "user"
KIND_TAG = "kind"
CORRELATION_TAG = "correlation"


class Pace:
    """Lets callers of all threads pass at a steady rate per second."""

    def __init__(
        self,
        a_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval = 1 / a_second if a_second else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Returns when it is the caller's turn."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._interval
        if turn > now:
            self._sleep(turn - now)


class Mailer:
    """Sends emails in the product's name."""

    def __init__(self, settings: Settings, client: Any = None, pace: Pace | None = None) -> None:
        self._settings = settings
        self._pace = pace or Pace(settings.mails_a_second)
        self._last_call = 0.0
        # One attempt: see above.
        self._client: Any = client or aws.client(
            "sesv2", settings.region, read_timeout=10, attempts=1
        )

    def drop_old_connections(self) -> None:
        """Call it before the first email of an event, while no request is under way.

        A function sleeps between two events, and SES may close the connection meanwhile. An email
        sent into a dead connection would be in doubt.
        """
        if time.monotonic() - self._last_call > _LONGEST_IDLE_SECONDS:
            self._client.close()

    def send(self, user_id: str, address: str, mail: Mail) -> str:
        """Sends an email; returns SES's id of it.

        Raises `MailPostponed`, `MailRefused` or `MailInDoubt`, none of which names the address.
        """
        product = self._settings.product
        self._pace.wait()
        self._last_call = time.monotonic()
        try:
            answer = self._client.send_email(
                # RFC 2047: SES wants names beyond ASCII encoded.
                FromEmailAddress=formataddr((product.name, self._settings.mail_from)),
                ReplyToAddresses=[product.replies_to] if product.replies_to else [],
                Destination={"ToAddresses": [address]},
                ConfigurationSetName=self._settings.mail_configuration_set,
                # These tags come back with a bounce: the operation, and the user, so that we need
                # not look the address up.
                EmailTags=[
                    {"Name": name, "Value": value}
                    for name, value in (
                        (USER_TAG, user_id.encode().hex()),
                        (KIND_TAG, mail.kind.value),
                        (CORRELATION_TAG, correlation_id()),
                    )
                    if value
                ],
                Content={
                    "Simple": {
                        "Subject": _text(mail.subject),
                        "Body": {"Text": _text(mail.text), "Html": _text(mail.html)},
                        "Headers": _headers(mail),
                    }
                },
            )
        except ClientError as error:
            # From None: SES's own words name the address.
            raise _refusal(error) from None
        except _NOT_CONNECTED as error:
            raise MailPostponed(f"SES cannot be reached ({type(error).__name__})") from None
        except ParamValidationError:
            raise MailRefused("the SDK refuses what SES was to be asked") from None
        except BotoCoreError as error:
            raise MailInDoubt(f"SES did not answer ({type(error).__name__})") from None
        message_id: str = answer["MessageId"]
        return message_id


def user_of_tag(value: str) -> str:
    """The user id in a tag that SES sends back. Raises ValueError for a malformed one."""
    user_id = bytes.fromhex(value).decode()
    try:
        return parse_user_id("tag", user_id)
    except InvalidInput:
        raise ValueError("the tag holds no user id") from None


def _text(value: str) -> dict[str, str]:
    return {"Data": value, "Charset": "UTF-8"}


def _headers(mail: Mail) -> list[dict[str, str]]:
    # RFC 2369 and RFC 8058: email programs show a button, and post to the link when it is pressed.
    return [
        {"Name": "List-Unsubscribe", "Value": f"<{mail.unsubscribe_url}>"},
        {"Name": "List-Unsubscribe-Post", "Value": "List-Unsubscribe=One-Click"},
        # No holiday replies, please.
        {"Name": "Auto-Submitted", "Value": "auto-generated"},
    ]


def _refusal(error: ClientError) -> MailPostponed | MailRefused | MailInDoubt:
    code = error.response["Error"]["Code"]
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    said = f"SES answered {status} {code}"
    is_unverified = _NOT_VERIFIED in error.response["Error"].get("Message", "")
    if code in _NOT_NOW or is_unverified or status in (429, 503):
        return MailPostponed(said)
    return MailRefused(said) if status < 500 else MailInDoubt(said)
