"""Counts who was due for a month and who was allocated, and prints the result.

python -m infra completeness 2026-07 [--zones Europe/Paris,Asia/Tokyo] [--stage prod]
(make completeness PERIOD=2026-07)
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

from botocore.exceptions import ClientError
from rich.console import Console

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import InvalidInput
from infra import reach, session
from infra.arguments import add_stage
from infra.faults import FAULTS
from infra.local import stacks
from infra.ticks import INVOCATION_SECONDS

# Counting ten million users of one zone takes some 34 minutes (docs/scale.md).
DEADLINE_SECONDS = 3600.0
_POLL_SECONDS = 1.0


def main(words: list[str] | None = None) -> int:
    """Reads the command line and counts; the exit status is 1 if the month is not complete."""
    parser = argparse.ArgumentParser(
        prog="python -m infra completeness",
        description="Counts who was due for a month and who was allocated, zone by zone.",
    )
    parser.add_argument("period", metavar="PERIOD", help="the month, such as 2026-07")
    parser.add_argument("--zones", help="only these timezones, separated by commas")
    add_stage(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON instead")
    arguments = parser.parse_args(words)
    event: dict[str, object] = {"period": arguments.period}
    try:
        Period.parse(arguments.period, "PERIOD")
        if arguments.zones is not None:
            zones = [zone.strip() for zone in arguments.zones.split(",")]
            event["zones"] = calendar.parse_timezones("ZONES", zones)
        return _count(reach.reach(arguments.stage, arguments.region), event, as_json=arguments.json)
    except (InvalidInput, stacks.NotRunningError, session.AwsError, *FAULTS) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1


def _count(stage: reach.Reach, event: dict[str, object], *, as_json: bool) -> int:
    # Longer than the function may run: otherwise the SDK would send again and start a second count.
    answer = stage.client("lambda", read_timeout=INVOCATION_SECONDS).invoke(
        FunctionName=stage.functions["check-completeness"], Payload=json.dumps(event).encode()
    )
    started = json.loads(answer["Payload"].read())
    if not started.get("success"):
        refused = started.get("error", {"detail": started})
        print(f"error: {refused['detail']}", file=sys.stderr)
        return 1
    s3 = stage.client("s3")
    deadline = time.monotonic() + DEADLINE_SECONDS

    def read(key: str) -> str | None:
        try:
            body: bytes = s3.get_object(Bucket=started["bucket"], Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        return body.decode()

    report = f"s3://{started['bucket']}/{started['summary']}"
    with Console(stderr=True).status(f"Counting {started['zones']} zones ..."):
        while not (summary := _watched(lambda: read(f"{started['summary']}.json"), report)):
            if time.monotonic() > deadline:
                print(
                    f"error: not counted within {DEADLINE_SECONDS:.0f} s. Are there messages in "
                    "the dead-letter queue of checks? If not, the count goes on, and its summary "
                    f"will be {report}.json",
                    file=sys.stderr,
                )
                return 1
            time.sleep(_POLL_SECONDS)
    if as_json:
        print(json.dumps(json.loads(summary)))
    else:
        print(read(f"{started['summary']}.txt"), end="")
        print(f"{report}.json")
    return 0 if json.loads(summary)["complete"] else 1


def _watched(ask: Callable[[], str | None], report: str) -> str | None:
    """Makes every error say that the count goes on without this command."""
    try:
        with session.told():
            return ask()
    except session.AwsError as error:
        raise session.AwsError(
            f"{error}\nThe count goes on without this command. Its report will be {report}.txt"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
