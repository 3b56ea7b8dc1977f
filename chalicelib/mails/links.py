"""Unsubscribe links: they work without a login because they are signed, and never expire.

A token is the user and the kind of email it is about, with their HMAC-SHA256 under a key that only
the sender and the API can read (Secrets Manager made it; no person has seen it).
"""

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple

from chalicelib import aws
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.notifications import MailKind

_PURPOSE = b"unsubscribe 1\n"
_LONGEST_TOKEN = 400
_EVERYTHING = "*"


class Unsubscription(NamedTuple):
    """A user who wants no more emails of a kind (None: of any kind)."""

    user_id: str
    kind: MailKind | None


def read_key(region: str, secret: str) -> bytes:
    """The key, from Secrets Manager: read it once per process."""
    return aws.read_secret(region, secret).encode()


class UnsubscribeLinks:
    """Makes and reads the links, with one key."""

    def __init__(self, key: bytes, url: str) -> None:
        if len(key) < 32:
            raise ValueError("the key of the unsubscribe links must have 32 bytes or more")
        self._key = key
        self._url = url

    def link(self, user_id: str, kind: MailKind | None) -> str:
        """The link that ends the emails of a kind, or all emails."""
        return f"{self._url}?token={self.token(user_id, kind)}"

    def token(self, user_id: str, kind: MailKind | None) -> str:
        """The token in the link."""
        payload = f"{kind.value if kind else _EVERYTHING} {user_id}".encode()
        return f"{_encode(payload)}.{_encode(self._signature(payload))}"

    def read(self, token: str) -> Unsubscription:
        """Reads a token. Raises `InvalidInput` if it was not made under this key."""
        payload, _, signature = token.partition(".")
        try:
            if len(token) > _LONGEST_TOKEN:
                raise ValueError("too long")
            said = _decode(payload)
            if not hmac.compare_digest(_decode(signature), self._signature(said)):
                raise ValueError("not of this key")
            kind, _, user_id = said.decode().partition(" ")
            return Unsubscription(user_id, None if kind == _EVERYTHING else MailKind(kind))
        except (ValueError, binascii.Error) as error:
            raise InvalidInput.of("token", "must be that of a link in one of our emails") from error

    def _signature(self, payload: bytes) -> bytes:
        return hmac.new(self._key, _PURPOSE + payload, hashlib.sha256).digest()


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
