"""AWS that fails between two steps of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError as Away

from tests.aws.world import client

__all__ = ["Away", "without"]


@contextmanager
def without(service: str, call: str) -> Iterator[None]:
    """Within the block, the services' client cannot make that call; what it raises is `Away`."""

    def fail(**_: Any) -> None:
        raise Away(endpoint_url=f"https://{service}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client(service, "services"), call, fail)
        yield
