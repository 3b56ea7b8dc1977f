"""Makes the clients of AWS, so that every client has limits for waiting and retrying."""

from typing import Any

import botocore.session
from botocore.config import Config

CONNECT_TIMEOUT_SECONDS = 2
READ_TIMEOUT_SECONDS = 5
MOST_ATTEMPTS = 4


def client(
    service: str,
    region: str,
    *,
    read_timeout: float = READ_TIMEOUT_SECONDS,
    attempts: int = MOST_ATTEMPTS,
    **settings: Any,
) -> Any:
    """A client of a service; ``attempts`` includes the first, ``settings`` are more settings."""
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
