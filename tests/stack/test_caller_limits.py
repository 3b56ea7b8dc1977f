"""One caller cannot use up what others may ask, where CallerLimits is on; how it is switched on."""

from dataclasses import dataclass, replace

import pytest

from chalicelib.api.lanes import BACKEND as BACKEND_LANE
from chalicelib.api.lanes import key_of, lane_of
from infra.deployment import caller_limits, deploy, gateway
from infra.deployment.deployed import Deployment
from infra.local import emulator, stacks
from infra.local.stacks import LocalStack
from tests.stack.api import ADMIN, BACKEND, USER, Api
from tests.stack.conftest import Packaged

STAGE = "dev"
PLANS = "/api/plans"
GREEDY = "greedy"
NEIGHBOUR, OTHER = (
    next(
        name
        for name in (f"user-{number}" for number in range(1_000))
        if (lane_of(name, []) == lane_of(GREEDY, [])) is shares
    )
    for shares in (True, False)
)


@dataclass(frozen=True)
class Limited:
    """A stage in which keys are asked for, and what its deployments said."""

    api: Api
    deployment: Deployment
    said: tuple[list[str], list[str]]
    between: int
    """What a user was answered between the two deployments."""


@pytest.fixture(scope="module")
def limited(elsewhere: LocalStack, packaged: Packaged) -> Limited:
    said: tuple[list[str], list[str]] = ([], [])

    def deployed(words: list[str]) -> tuple[Deployment, Api]:
        deployment = deploy.deploy(
            STAGE,
            elsewhere.client,
            region=emulator.REGION,
            parameters=stacks.parameters(elsewhere.issuer, STAGE) | {"CallerLimits": "on"},
            say=words.append,
            make_package=packaged,
        )
        gateway.put_gateway_responses(elsewhere.client("apigateway"), deployment.api_id, "v1")
        url = f"{elsewhere.endpoint_url}/_aws/execute-api/{deployment.api_id}/v1"
        return deployment, Api(replace(elsewhere, api_url=url))

    _, api = deployed(said[0])
    between = api.send("GET", PLANS, elsewhere.token(GREEDY)).status
    again, api = deployed(said[1])
    return Limited(api, again, said, between)


def ask(limited: Limited, user_id: str, scopes: str = USER) -> int:
    """What a new token of a user is answered, or of a backend or an admin."""
    token = limited.api.stack.token(user_id, scopes)
    return limited.api.send("GET", PLANS, token, is_checked=False).status


def plan_of(stack: LocalStack, name: str) -> str:
    plans = stack.client("apigateway").get_usage_plans()["items"]
    (found,) = [plan["id"] for plan in plans if plan["name"] == name]
    return str(found)


def throttle(stack: LocalStack, name: str, rate: int) -> None:
    patch = [
        {"op": "replace", "path": f"/throttle/{limit}", "value": str(rate)}
        for limit in ("rateLimit", "burstLimit")
    ]
    stack.client("apigateway").update_usage_plan(
        usagePlanId=plan_of(stack, name), patchOperations=patch
    )


def test_keys_are_made_first_and_asked_for_from_the_next_deployment_on(limited: Limited) -> None:
    first, second = limited.said
    assert caller_limits.NOT_YET in first
    assert caller_limits.NOT_YET not in second
    assert (limited.between, limited.deployment.changed) == (200, True)


def test_everybody_has_a_key_and_what_is_public_needs_none(limited: Limited) -> None:
    for user_id, scopes in ((GREEDY, USER), (OTHER, USER), ("shop", BACKEND), ("ada", ADMIN)):
        assert ask(limited, user_id, scopes) == 200
    assert limited.api.send("GET", "/api/health").status == 200
    assert limited.api.send("GET", PLANS, is_checked=False).status == 401


def test_a_lane_that_asks_too_much_is_told_to_slow_down_and_nobody_else_is(
    elsewhere: LocalStack, limited: Limited
) -> None:
    throttle(elsewhere, "credits-dev", 1)
    try:
        answers = [ask(limited, GREEDY) for _ in range(4)]
        assert 429 in answers
        assert ask(limited, NEIGHBOUR) == 429  # who shares its lane
        assert ask(limited, OTHER) == 200
        assert ask(limited, "shop", BACKEND) == 200
    finally:
        throttle(elsewhere, "credits-dev", 1_000)


def test_a_backend_that_asks_too_much_holds_up_no_user(
    elsewhere: LocalStack, limited: Limited
) -> None:
    throttle(elsewhere, "credits-dev-backend", 1)
    try:
        assert 429 in [ask(limited, "shop", BACKEND) for _ in range(4)]
        assert ask(limited, OTHER) == 200
    finally:
        throttle(elsewhere, "credits-dev-backend", 1_000)


def test_a_key_in_the_request_counts_for_nothing(elsewhere: LocalStack, limited: Limited) -> None:
    throttle(elsewhere, "credits-dev", 1)
    try:
        token = elsewhere.token(GREEDY)
        headers = {"x-api-key": key_of("creditsdev", BACKEND_LANE)}
        answers = [
            limited.api.send("GET", PLANS, token, headers=headers, is_checked=False).status
            for _ in range(4)
        ]
        assert 429 in answers
    finally:
        throttle(elsewhere, "credits-dev", 1_000)


def test_a_lane_whose_key_has_no_plan_is_refused(elsewhere: LocalStack, limited: Limited) -> None:
    """Why keys come first: a method that asks for one answers nobody without."""
    client, plan = elsewhere.client("apigateway"), plan_of(elsewhere, "credits-dev-backend")
    (key,) = client.get_usage_plan_keys(usagePlanId=plan)["items"]
    client.delete_usage_plan_key(usagePlanId=plan, keyId=key["id"])
    try:
        assert ask(limited, "shop", BACKEND) == 403
        assert ask(limited, OTHER) == 200
    finally:
        client.create_usage_plan_key(usagePlanId=plan, keyId=key["id"], keyType="API_KEY")
    assert ask(limited, "shop", BACKEND) == 200
