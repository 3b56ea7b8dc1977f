"""What the first page shows of curl works, against the deployed stack."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.deployment import packaging
from infra.local.stacks import LocalStack
from tests.stack.api import Api

USER = "first-page"


def test_the_way_from_a_registration_to_a_capture_works(stack: LocalStack, tmp_path: Path) -> None:
    page = (packaging.ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```sh\n(eval .*?)^```", page, re.MULTILINE | re.DOTALL)
    state = tmp_path / "local.json"
    state.write_text(stack.to_json())
    # A subscriber and keys of this test's own, and every answer of the API on a line.
    script = re.sub(r"\bada\b", USER, shown).replace("pi_1", "pi_first_page")
    script = script.replace("crawl-17", "first-page-17").replace("$(make -s env)", "$PRINTED")
    script = 'curl() { command curl -sS -w "\\n" "$@"; }\n' + script

    printed = subprocess.run(
        [sys.executable, "-m", "infra", "env"],
        cwd=packaging.ROOT,
        env=os.environ | {"CREDITS_STATE_FILE": str(state)},
        capture_output=True,
        text=True,
        check=True,
    )
    run = subprocess.run(
        ["sh", "-eu", "-c", script],
        env=os.environ | {"PRINTED": printed.stdout},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stderr) == (0, "")
    answers: list[Any] = [json.loads(line) for line in run.stdout.splitlines()]
    registered, sold, checked, captured = answers
    assert registered["user_id"] == USER
    assert sold["success"]
    assert checked["available_balance"] == 500
    assert (captured["captured"], captured["released"]) == (31, 19)
    assert Api(stack).balance(USER) == 469
