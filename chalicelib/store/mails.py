"""The table of emails: it records which emails were sent, so that each is sent once.

Powertools' idempotency writes it. A record is put before an email goes to SES, on condition that
the table has no such record, and is completed with SES's answer.

    sender A                         sender B
    puts the record: in progress
                                     record refused: in progress, so A may be sending it
    SES takes the email
    completes the record
                                     record refused: sent, nothing left to do

One window cannot be closed: a sender that dies between SES's answer and its record leaves a record
in progress, and nobody can tell whether the email went out. Such an email is *never sent again*;
its message ends in the dead-letter queue, where a person must look at it. The same holds for an
email for which SES gave no answer. We prefer losing an email, and reporting it, to sending it
twice.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyInconsistentStateError,
    IdempotencyPersistenceLayerError,
)

from chalicelib.domain.damage import Damage, optional_of, value_of
from chalicelib.domain.errors import Unreadable
from chalicelib.domain.instants import stored_instant
from chalicelib.mails.errors import MailInDoubt, MailsUnrecorded
from chalicelib.retries import Pause, pause_with_jitter

from .database import Item, read_many, text
from .reading import Attribute, as_choice, as_text, as_whole, read
from .wire.client import Client
from .wire.sdk_shaped import SdkShaped

KEPT_SECONDS = 90 * 24 * 60 * 60
"""How long a record is kept. A message lives 14 days, and as long again after each redrive."""

Json = dict[str, Any]


class MailStatus(StrEnum):
    """The state of an email; in progress means in doubt."""

    COMPLETED = "COMPLETED"
    IN_PROGRESS = "INPROGRESS"


class MailRecord(NamedTuple):
    """The record of an email."""

    identity: str
    status: MailStatus
    kept_until: datetime
    said: Json


class _Records(DynamoDBPersistenceLayer):
    def _item_to_data_record(self, item: Any) -> Any:
        read_mail("", item)
        return super()._item_to_data_record(item)

    def delete_record(self, data: Any, exception: Exception) -> None:
        # Powertools forgets failures, so that they can be tried again. An email that may have been
        # sent must not be tried again.
        if not isinstance(exception, MailInDoubt):
            super().delete_record(data, exception)


class _Lasting:
    """Replaces a Lambda's context: a record in progress stays in progress until it is deleted."""

    def get_remaining_time_in_millis(self) -> int:
        return KEPT_SECONDS * 1000


class MailRecords:
    """All access to the table of emails."""

    def __init__(self, client: Client, table: str, pause: Pause = pause_with_jitter) -> None:
        self._client = client
        self._table = table
        self._pause = pause
        # The layer takes any client: this is the process's only client of DynamoDB.
        self._layer = _Records(table_name=table, boto3_client=SdkShaped(client))
        self._config = IdempotencyConfig(
            expires_after_seconds=KEPT_SECONDS,
            hash_function="sha256",
            lambda_context=_Lasting(),  # type: ignore[arg-type]  # of it only the time is asked
        )

    def once(self, identity: str, send: Callable[[], Json]) -> Json:
        """The result of ``send``, which is called once for this identity, now or before.

        Raises what ``send`` raises; ``send`` may then be called again, except after `MailInDoubt`.
        Raises `MailInDoubt` if another sender is sending or died while sending, `MailsUnrecorded`
        when the table does not answer, and `Unreadable` for a damaged record.
        """

        @idempotent_function(  # type: ignore[untyped-decorator]
            data_keyword_argument="identity",
            persistence_store=self._layer,
            config=self._config,
            key_prefix="mail",
        )
        def perform(*, identity: str) -> Json:  # noqa: ARG001 - it is what Powertools looks at
            return send()

        try:
            answer: Json = perform(identity=identity)
        except IdempotencyAlreadyInProgressError as error:
            raise MailInDoubt("another sender is at it, or died over it") from error
        except IdempotencyPersistenceLayerError as error:
            if isinstance(error.__cause__, Unreadable):
                raise error.__cause__ from None
            raise MailsUnrecorded(f"the table of emails failed: {error}") from error
        except IdempotencyInconsistentStateError as error:
            raise MailsUnrecorded(f"the table of emails failed: {error}") from error
        return answer

    def find(self, identities: Iterable[str]) -> dict[str, Item]:
        """The existing records by identity; for `read_mail` to read.

        Raises `Contention`.
        """
        names = {record_id(identity): identity for identity in identities}
        wanted = [{"id": text(name)} for name in names]
        items = read_many(
            self._client,
            self._table,
            wanted,
            self._pause,
            called="records of mails",
            consistent=False,
        )
        return {names[item["id"]["S"]]: item for item in items}


def read_mail(identity: str, item: Item) -> MailRecord:
    """Reads the record of an email. Raises `Unreadable`."""
    return read("mail", item["id"]["S"], item, partial(_mail, identity))


def _mail(identity: str, item: Item) -> MailRecord:
    optional_of(item, "in_progress_expiration", as_whole)  # Powertools reads it
    return MailRecord(
        identity=identity,
        status=value_of(item, "status", as_choice(MailStatus)),
        kept_until=value_of(item, "expiration", _second),
        said=optional_of(item, "data", _said) or {},
    )


def _second(attribute: Attribute) -> datetime:
    return stored_instant(as_whole(attribute) * 1000)


def _said(attribute: Attribute) -> Json:
    said = json.loads(as_text(attribute))
    if not isinstance(said, dict):
        raise Damage("is no object")
    return said


def record_id(identity: str) -> str:
    """The key under which Powertools keeps the record of an identity."""
    return f"mail#{hashlib.sha256(json.dumps(identity).encode()).hexdigest()}"
