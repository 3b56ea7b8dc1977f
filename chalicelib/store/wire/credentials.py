"""Where the credentials of a request come from."""

import os
from collections.abc import Callable
from typing import Any

from .signing import Keys

Source = Callable[[], Keys]
"""The current credentials; called before each request, so that it can renew them."""


class Found:
    """The environment's credentials, as Lambda sets them; else those that the SDK finds.

    The SDK knows profiles, single sign-on, containers and instances, and renews expiring
    credentials. It is imported only when needed.
    """

    def __init__(self) -> None:
        self._chain: Any = None
        self._keys: Keys | None = None

    def __call__(self) -> Keys:
        """Raises botocore's error if there are no credentials."""
        # Each set of keys has its own access key, so comparing that is enough.
        known = self._keys
        if known is None or known.access_key != os.environ.get("AWS_ACCESS_KEY_ID"):
            known = self._keys = _of_environment()
        return known or self._of_chain()

    def _of_chain(self) -> Keys:
        if self._chain is None:
            import botocore.session
            from botocore.exceptions import NoCredentialsError

            self._chain = botocore.session.get_session().get_credentials()
            if self._chain is None:
                raise NoCredentialsError
        frozen = self._chain.get_frozen_credentials()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token or "")


def _of_environment() -> Keys | None:
    access_key = os.environ.get("AWS_ACCESS_KEY_ID")
    secret_key = os.environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key or "AWS_CREDENTIAL_EXPIRATION" in os.environ:
        return None  # the SDK renews credentials that end
    return Keys(access_key, secret_key, os.environ.get("AWS_SESSION_TOKEN", ""))
