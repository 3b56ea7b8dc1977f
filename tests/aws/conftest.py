"""Fixtures of the tests that run the real handlers over moto."""

from collections.abc import Iterator

import pytest
from moto import mock_aws

from tests import wire
from tests.aws import once, partiql
from tests.aws.api import Api
from tests.aws.repair import Terminal
from tests.aws.stripe_events import Stripe
from tests.aws.world import REGION, World


@pytest.fixture(autouse=True)
def _in_process_aws() -> Iterator[None]:
    # Not with the test's own monkeypatch, which it may undo.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.delenv("AWS_PROFILE", raising=False)
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        patch.setenv("POWERTOOLS_SERVICE_NAME", "credits")
        wire.install(patch)
        once.install(patch)
        partiql.install(patch)
        with mock_aws():
            yield


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def api(world: World, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr("chalicelib.api.exchange.services", lambda: world.services)
    return Api()


@pytest.fixture
def terminal(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    return Terminal(world, monkeypatch, capsys)


@pytest.fixture
def stripe(world: World) -> Stripe:
    return Stripe(world)
