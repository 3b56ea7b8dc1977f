"""Clients that hey-api and orval make of the contract call the deployed API.

`make prove PARTS=generators` runs this. `make test` does not: their packages take longer to install
than all of the TypeScript client.
"""

import json
import subprocess
from pathlib import Path

import pytest

from infra.deployment import packaging
from infra.local.stacks import LocalStack
from tests.generators import DAY, environment
from tests.stack.test_typescript import NODE, npm

FOLDER = packaging.ROOT / "tests" / "generators"
GENERATORS = ("hey-api", "orval")


@pytest.fixture(scope="module")
def programs() -> Path:
    """The programs of the other generators, with clients of the contract as it is now, compiled."""
    npm("ci", "--ignore-scripts", cwd=FOLDER)
    for script in (*GENERATORS, "build"):
        npm("run", script, cwd=FOLDER)
    return FOLDER / "build" / "programs"


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_client_made_by_another_generator_calls_the_api(
    stack: LocalStack, programs: Path, generator: str
) -> None:
    run = subprocess.run(
        [NODE / "node", programs / f"{generator}.js"],
        env=environment(stack),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout) == DAY
