"""Made-up requests of each role, good and bad: no answer breaks the contract, and none is a 5xx.

`make contract` makes thousands of them instead of hundreds.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.deployment import packaging
from infra.local.stacks import LocalStack, local_stack
from tests.aws import contract
from tests.stack.api import ADMIN, BACKEND, USER, Api
from tests.stack.conftest import Packaged

# How many requests to make up for each route and role, beside those that its schema suggests.
EXAMPLES = int(os.environ.get("CONTRACT_EXAMPLES", "0"))
SEED = os.environ.get("CONTRACT_SEED", "1")

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")

# Whom the examples of the contract are about.
USER_ID = "42"


# Without being asked for thousands: the admin, who may do most, tries what the schemas suggest. The
# others come with `make contract` only: together they take two minutes.
SHORT = ("--phases", "examples,coverage")
ROLES = {"admin": ("ada", ADMIN), "backend": ("shop", BACKEND), "user": (USER_ID, USER)}


@pytest.fixture(scope="module")
def own_stack(packaged: Packaged) -> Iterator[LocalStack]:
    """A stack for these tests alone: what they start and leave behind is no other test's."""
    with local_stack(schedules=False, make_package=packaged) as deployed:
        yield deployed


@pytest.mark.parametrize("role", ROLES if EXAMPLES else ("admin",))
def test_no_answer_breaks_the_contract(own_stack: LocalStack, tmp_path: Path, role: str) -> None:
    api = Api(own_stack)
    api.subscribe(USER_ID)
    api.grant(USER_ID, 10_000, key=f"contract-{role}")
    caller, scopes = ROLES[role]
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(CONFIGURATION), "run", str(contract.CONTRACT)),
            *("--url", own_stack.api_url, "--seed", SEED, "--warnings", "off", "--checks", "all"),
            *(("--max-examples", str(EXAMPLES)) if EXAMPLES else SHORT),
            *("--report", "json", "--report-json-path", "report.json"),
        ],
        cwd=tmp_path,
        env=os.environ
        | {
            "CREDITS_TOKEN": own_stack.token(caller, scopes, exp=4_000_000_000),
            "NO_COLOR": "1",
            # There it finds what takes it three seconds to work out about Unicode.
            "HYPOTHESIS_STORAGE_DIRECTORY": str(packaging.ROOT / ".hypothesis"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    assert report["complete"]
    assert report["operations"]["tested"] == len(contract.operations())
    sys.stdout.write(f"{role}: {report['test_cases']['generated']:,} requests\n")
    assert report["test_cases"]["generated"] >= 13 * EXAMPLES
