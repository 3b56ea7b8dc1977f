"""Makes the SDK's clients of AWS, so that every client has limits for waiting and retrying.

The SDK is imported for the first of them: reading, spending and a worker's message need none.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
MOST_ATTEMPTS = 4

KEPT = timedelta(seconds=5)
"""How long a secret that people put in place is not asked for again."""


def client(
    service: str,
    region: str,
    *,
    read_timeout: float = READ_TIMEOUT_SECONDS,
    attempts: int = MOST_ATTEMPTS,
    **settings: Any,
) -> Any:
    """A client of a service; ``attempts`` includes the first, ``settings`` are more settings."""
    import botocore.session
    from botocore.config import Config

    return botocore.session.get_session().create_client(
        service,
        region_name=region,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": attempts},
            **settings,
        ),
    )


def read_secret(region: str, name: str) -> str:
    """The value of a secret in Secrets Manager. Ask once per process: each question costs money."""
    client_of_secrets = client("secretsmanager", region, attempts=3)
    text: str = client_of_secrets.get_secret_value(SecretId=name)["SecretString"]
    return text


class KeptSecret:
    """A secret that people put in place and replace, while the process lives on.

    ``read`` reads it. It is asked for again only when what is known does not serve, and then not
    more than once in `KEPT`: whoever sends us rubbish must not make us pay for questions.
    """

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._known: tuple[str, datetime] | None = None

    def values(self, now: datetime) -> Iterator[str]:
        """The secret as it is known and, if that does not serve, as it is ``now``."""
        if self._known is not None:
            value, read_at = self._known
            yield value
            if now - read_at < KEPT:
                return
        self._known = self._read(), now
        yield self._known[0]
