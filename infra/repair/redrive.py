"""Moves the messages of a dead-letter queue back to their own queue.

    python -m infra redrive [--queue allocations [--limit 10]]     (make redrive QUEUE=...)

Without a queue it lists all dead-letter queues. No message is lost: each is in its own queue before
it leaves the dead-letter queue. The workers make sure that a message moved twice changes nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.domain.instants import format_instant
from chalicelib.domain.nearest import nearest
from infra.arguments import whole_number
from infra.repair import command
from infra.repair.command import Repair, RepairError, Summary

SUFFIX = "-dlq"

SHOWN = 3
"""How many messages are shown before the question."""

LONGEST_SHOWN = 300
"""How many characters of a body are shown."""

READERS = {
    "sweeps": "sweep-zone",
    "allocations": "allocate-accounts",
    "expiries": "expire-batches",
    "notifications": "send-notifications",
    "checks": "check-zone",
    "events": "publish-events",
}
"""Which function reads each queue: its log says why a message failed."""

_ADVICE = {"webhook": "docs/events.md"}
"""The page that helps with dead letters that come from no queue; the others are about email."""

HIDDEN_SECONDS = 60
"""How long a message that is being moved stays hidden from another redrive."""

MESSAGES_A_REQUEST = 10
MOST_LOG_PAGES = 10


class DeadLetters:
    """One dead-letter queue, and the queue that its messages come from, if there is one."""

    def __init__(self, repair: Repair, name: str) -> None:
        self.name = name
        self.url = repair.reach.queues[f"{name}{SUFFIX}"]
        self._repair = repair
        self._target = repair.reach.queues.get(name)
        self._sqs = repair.reach.client("sqs")

    @property
    def target(self) -> str:
        """The URL of the queue that they come from. Raises `RepairError` if there is none."""
        if self._target is None:
            raise RepairError(
                f"What is in {self.name}{SUFFIX} comes from no queue, so it cannot be moved back. "
                f"{_ADVICE.get(self.name, 'docs/mail.md')} says what to do about it."
            )
        return self._target

    def count(self) -> int:
        """How many messages wait here, including hidden ones."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return sum(int(self._attributes(self.url, *names)[name]) for name in names)

    def peek(self) -> list[dict[str, Any]]:
        """A few of the messages; they stay visible."""
        found: dict[str, dict[str, Any]] = {}
        for _ in range(SHOWN):
            for message in self._receive(SHOWN, hidden_seconds=0):
                found.setdefault(message["MessageId"], message)
            if len(found) >= SHOWN:
                break
        return list(found.values())[:SHOWN]

    def why(self, message: dict[str, Any]) -> str:
        """Why a message failed, according to the log of the function that read it."""
        reader = self._repair.reach.functions.get(READERS.get(self.name, ""))
        if reader is None:
            return "not known"
        said = list(self._logged(f"/aws/lambda/{reader}", message))
        if not said:
            return f"not in the log of {reader}: it died or ran out of time, or the log is gone"
        return said[-1]

    def move(self, most: int) -> Iterator[int]:
        """Moves up to ``most`` messages one request at a time; yields how many each moved.

        It sends first and deletes afterwards. New dead letters are left for another redrive.
        """
        while most > 0:
            messages = self._receive(min(most, MESSAGES_A_REQUEST), HIDDEN_SECONDS)
            if not messages:
                return
            handles = {str(place): m["ReceiptHandle"] for place, m in enumerate(messages)}
            sent = self._sqs.send_message_batch(
                QueueUrl=self.target,
                Entries=[
                    {
                        "Id": str(place),
                        "MessageBody": message["Body"],
                        "MessageAttributes": message.get("MessageAttributes", {}),
                    }
                    for place, message in enumerate(messages)
                ],
            )
            arrived = [answer["Id"] for answer in sent.get("Successful", ())]
            if not arrived:
                raise RepairError(f"SQS does not take the messages: {sent.get('Failed')}")
            self._sqs.delete_message_batch(
                QueueUrl=self.url,
                Entries=[{"Id": place, "ReceiptHandle": handles[place]} for place in arrived],
            )
            most -= len(arrived)
            yield len(arrived)

    def _receive(self, most: int, hidden_seconds: int) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=most,
            VisibilityTimeout=hidden_seconds,
            WaitTimeSeconds=1,  # asks all of SQS's servers, so that no message is overlooked
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def _logged(self, group: str, message: dict[str, Any]) -> Iterator[str]:
        logs = self._repair.reach.client("logs")
        asked: dict[str, Any] = {
            "logGroupName": group,
            "filterPattern": f'"{message["MessageId"]}"',
            "startTime": int(message["Attributes"]["SentTimestamp"]),
        }
        try:
            for _ in range(MOST_LOG_PAGES):
                page = logs.filter_log_events(**asked)
                for event in page["events"]:
                    yield _error_in(event["message"])
                if not page.get("nextToken"):
                    return
                asked["nextToken"] = page["nextToken"]
        except ClientError as error:
            yield f"its log could not be read: {error}"

    def _attributes(self, url: str, *names: str) -> dict[str, str]:
        answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
        attributes: dict[str, str] = answer["Attributes"]
        return attributes


def _error_in(line: str) -> str:
    """The error in a line of a function's log; the line itself if it is not JSON."""
    try:
        logged = json.loads(line[line.index("{") :])
    except (ValueError, RecursionError):
        return line.strip()
    return str(logged.get("error") or logged.get("message") or line.strip())


def dead_letter_queues(repair: Repair) -> list[str]:
    """The queues that have a dead-letter queue, by the short names of `--queue`."""
    return sorted(
        name.removesuffix(SUFFIX) for name in repair.reach.queues if name.endswith(SUFFIX)
    )


def list_all(repair: Repair) -> Summary:
    """How many messages are in each dead-letter queue."""
    counts = {name: DeadLetters(repair, name).count() for name in dead_letter_queues(repair)}
    repair.show("Dead-letter queues", ("queue", "#messages"), counts.items())
    waiting = sum(counts.values())
    text = (
        f"{waiting:,} messages wait. Look into a queue, and move them back: make redrive QUEUE=..."
        if waiting
        else "No messages wait in dead-letter queues."
    )
    return Summary(text, {"queues": counts})


def redrive(repair: Repair, arguments: argparse.Namespace) -> Summary:
    """The command."""
    if arguments.queue is None:
        return list_all(repair)
    names = dead_letter_queues(repair)
    name = arguments.queue.removesuffix(SUFFIX)
    if name not in names:
        meant = nearest(name, names)
        advice = f"did you mean {meant}?" if meant else f"the queues are {', '.join(names)}"
        raise RepairError(f"There is no dead-letter queue of {name}: {advice}")
    dead = DeadLetters(repair, name)
    waiting = dead.count()
    facts: dict[str, Any] = {"queue": name, "waiting": waiting, "moved": 0}
    if not waiting:
        return Summary(f"No messages wait in {name}{SUFFIX}: nothing to move.", facts)
    facts["messages"] = [_described(dead, message) for message in dead.peek()]
    repair.show(
        f"{len(facts['messages'])} of about {waiting} messages in {name}{SUFFIX}",
        ("sent", "#received", "body", "why it failed"),
        [message.values() for message in facts["messages"]],
    )
    _ = dead.target
    most = min(waiting, arguments.limit or waiting)
    if not repair.is_agreed(f"move {most:,} of {waiting:,} messages back to {name}"):
        return Summary(f"{waiting:,} messages wait in {name}{SUFFIX}.", facts)
    for moved in repair.follow(f"Moving to {name}", dead.move(most)):
        facts["moved"] += moved
    facts["waiting"] = dead.count()
    is_complete = facts["moved"] >= most
    rest = "" if is_complete else ": others are hidden for the moment. Run it again in a minute"
    return Summary(
        f"Moved {facts['moved']:,} of {most:,} messages back to {name}{rest}.", facts, is_complete
    )


def _described(dead: DeadLetters, message: dict[str, Any]) -> dict[str, Any]:
    sent = datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, UTC)
    body = message["Body"]
    return {
        "sent_at": format_instant(sent),
        "receives": int(message["Attributes"]["ApproximateReceiveCount"]),
        "body": body if len(body) <= LONGEST_SHOWN else f"{body[:LONGEST_SHOWN]}...",
        "why": dead.why(message),
    }


def main(words: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    parser = command.parser_of("redrive", "Moves dead letters back to the queue they come from.")
    parser.add_argument(
        "--queue", help="the queue, such as allocations; without it, all are listed"
    )
    parser.add_argument(
        "--limit", type=whole_number(), help="move at most this many messages; default: all"
    )
    return command.run(parser, redrive, words)


if __name__ == "__main__":
    sys.exit(main())
