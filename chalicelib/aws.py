"""Makes the SDK's clients of AWS, so that every client has limits for waiting and retrying.

The SDK is imported for the first client: reading, spending and a worker's message need none.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
MOST_ATTEMPTS = 4

KEPT = timedelta(seconds=5)
"""How long a secret that people enter is kept before it may be read again."""


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
    """The value of a secret in Secrets Manager. Read it once per process: each read costs money."""
    client_of_secrets = client("secretsmanager", region, attempts=3)
    text: str = client_of_secrets.get_secret_value(SecretId=name)["SecretString"]
    return text


class KeptSecret:
    """A secret that people enter and replace while the process runs.

    ``read`` reads it. It is read again only when the known value does not work, and at most once in
    `KEPT`: invalid requests must not make us pay for reads.
    """

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._known: tuple[str, datetime] | None = None

    def values(self, now: datetime) -> Iterator[str]:
        """The known value of the secret and, if that does not work, its value ``now``."""
        if self._known is not None:
            value, read_at = self._known
            yield value
            if now - read_at < KEPT:
                return
        self._known = self._read(), now
        yield self._known[0]
