"""Anchors as they are made by the deployed stack, and what nobody can do to them."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from chalicelib.domain.edits import BY_IMPORT
from chalicelib.domain.terms import FIELDS
from infra.local.services import services_of_local
from infra.local.stacks import LocalStack
from tests.registered import register
from tests.stack.conftest import Invoke, wait_for

SUBSCRIBED = {
    "user_id": "anchored",
    "email": "anchored@example.com",
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def heads(stack: LocalStack, invoke: Invoke) -> list[dict[str, Any]]:
    """The versions of objects that come of a grant."""
    before = versions(stack, "heads/")
    user(stack)
    answer = invoke(
        "manual-allocate",
        {
            "user_id": "anchored",
            "amount": 5,
            "description": "Goodwill",
            "actor": "ada",
            "idempotency_key": "anchored-1",
        },
    )
    assert answer.payload["success"], answer
    return wait_for(lambda: versions(stack, "heads/")[len(before) :], "an anchor of the grant")


def user(stack: LocalStack) -> None:
    services = services_of_local(stack)
    services.subscriptions.change(
        "anchored",
        lambda existing: register(
            SUBSCRIBED, services.catalogue, services.now(), existing, kept=FIELDS
        ),
        BY_IMPORT,
        services.now(),
    )


def versions(stack: LocalStack, prefix: str) -> list[dict[str, Any]]:
    answer = stack.client("s3").list_object_versions(Bucket=stack.buckets["anchors"], Prefix=prefix)
    found: list[dict[str, Any]] = answer.get("Versions", [])
    return found


def test_an_entry_is_anchored_and_nobody_deletes_its_anchor_before_its_time(
    stack: LocalStack, heads: list[dict[str, Any]]
) -> None:
    s3, bucket = stack.client("s3"), stack.buckets["anchors"]
    for head in heads:
        with pytest.raises(ClientError) as refused:
            s3.delete_object(Bucket=bucket, Key=head["Key"], VersionId=head["VersionId"])
        assert refused.value.response["Error"]["Code"] == "AccessDenied"
        # Who deletes the name hides it, and it is read all the same.
        s3.delete_object(Bucket=bucket, Key=head["Key"])
    assert [head["Key"] for head in versions(stack, "heads/")][-len(heads) :] == [
        head["Key"] for head in heads
    ]


def test_the_days_audit_makes_a_digest_with_its_own_rights(
    stack: LocalStack, invoke: Invoke, heads: list[dict[str, Any]]
) -> None:
    assert heads
    event = {"detail-type": "Scheduled Event", "id": "e-1", "time": "2026-02-02T13:40:00Z"}
    for _ in range(2):
        answer = invoke("audit-ledgers", event)
        assert answer.error is None, answer
        assert answer.payload["corrupt"] == []
    assert len(versions(stack, "digests/")) == 1
    assert services_of_local(stack).anchors.find(["anchored"]).taken_at
