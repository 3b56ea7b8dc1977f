"""A client that openapi-python-client makes of the contract calls the deployed API.

test_typescript.py tries openapi-typescript; other_generators.py tries those that `make test` has no
packages for.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from infra.deployment import packaging
from infra.local.stacks import LocalStack
from tests.generators import DAY, environment

CONTRACT = packaging.ROOT / "chalicelib" / "api" / "openapi.json"

PYTHON = '''
"""The day of a subscriber, with the client that openapi-python-client makes."""

import datetime
import json
import os

from made.api.administration import allocate_credits
from made.api.credits_ import capture_hold, get_balance, hold_credits, use_credits
from made.api.subscriptions import put_subscription
from made.client import AuthenticatedClient
from made.models import (
    AllocateRequest,
    CaptureRequest,
    HoldRequest,
    PutSubscriptionIfNoneMatch,
    SubscriptionRequest,
    SubscriptionRequestBillingInterval,
    SubscriptionRequestStatus,
    UseRequest,
)

client = AuthenticatedClient(os.environ["CREDITS_API_URL"], os.environ["CREDITS_TOKEN"])
user_id = "openapi-python-client"
subscription = SubscriptionRequest(
    plan="pro",
    billing_interval=SubscriptionRequestBillingInterval.YEARLY,
    status=SubscriptionRequestStatus.ACTIVE,
    timezone="Europe/Paris",
    started_at=datetime.datetime(2026, 1, 15, tzinfo=datetime.timezone.utc),
)


def register():
    only_new = PutSubscriptionIfNoneMatch.VALUE_0
    return put_subscription.sync_detailed(
        user_id, client=client, body=subscription, if_none_match=only_new
    )


registered, again = register(), register()
grant = AllocateRequest(user_id=user_id, amount=100, description="Welcome")
granted = allocate_credits.sync(client=client, body=grant, idempotency_key="python-1")
hold = HoldRequest(user_id=user_id, amount=50, description="Crawl")
held = hold_credits.sync(client=client, body=hold, idempotency_key="python-2")
captured = capture_hold.sync(held.hold_id, client=client, body=CaptureRequest(amount=31))
balance = get_balance.sync(client=client, user_id=user_id)
much = UseRequest(user_id=user_id, amount=1_000, description="Too much")
refused = use_credits.sync(client=client, body=much, idempotency_key="python-3")
print(
    json.dumps(
        {
            "registered": registered.status_code,
            "again": again.parsed.code,
            "granted": granted.new_balance,
            "captured": captured.captured,
            "released": captured.released,
            "balance": balance.available_balance,
            "refused": refused.code,
        }
    )
)
'''


def test_a_client_made_by_openapi_python_client_calls_the_api(
    stack: LocalStack, tmp_path: Path
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("post_hooks: []\n")  # its formatting is nobody's business
    make = ["generate", "--path", str(CONTRACT), "--output-path", str(tmp_path / "made")]
    made = subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", *make),
            *("--meta", "none", "--config", str(settings), "--fail-on-warning"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    (tmp_path / "program.py").write_text(PYTHON)
    run = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=os.environ | environment(stack),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout) == DAY
