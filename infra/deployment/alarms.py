"""Every alarm of the stack, in one table.

The queues, functions and tables to watch are read from the template itself, so every declared
resource is watched. infra/deployment/alarm_resources.py makes the alarms of the template from this
table, and infra/pages/alarms.py the tables of docs/operating.md.

Metric math would need fewer alarms in some places, but the emulator refuses it in a template.

A stage of the size `small` has only the alarms for lost or missing credits, and those that roll a
deployment back. Each custom metric costs money, so a small stage writes only the metrics that its
alarms read.
"""

from __future__ import annotations

from infra.deployment.symptoms import (
    NAMESPACE,
    Missing,
    PerStage,
    Rings,
    Statistic,
    Symptom,
    dead_letter_queues,
    functions,
    queue_readers,
    queues,
    stream_readers,
    tables_and_indexes,
    the_api,
    whole_account,
    whole_service,
)

RUNBOOK = "docs/operating.md"

ROLLBACK_ALARMS = (
    "api-5xx",
    "api-latency",
    "function-errors-allocation-tick",
    "function-errors-sweep-zone",
    "function-errors-queue-notifications",
)
"""The alarms that roll a deployment back. CloudFormation allows five. They watch what runs every
quarter of an hour: a worker that only runs when a month begins would hardly fail just while a
deployment is watched. Failures of the authorizer count as 5XX answers of the API."""

SYMPTOMS = (
    Symptom(
        "dead-letters",
        "Messages of {part} failed for good and wait in its dead-letter queue.",
        dead_letter_queues,
        "AWS/SQS",
        "ApproximateNumberOfMessagesVisible",
        Statistic.MAXIMUM,
        PerStage(dev=1, prod=1),
        seconds=60,
        in_small=True,
    ),
    # It must not ring before the next tick has swept the same zones again. It must not ring while a
    # message that failed a few times waits for its next try, or one whose function died waits its
    # six minutes. Emails wait on purpose: for the rate of SES, and for tomorrow.
    Symptom(
        "queue-age",
        "The queue {part} is not worked off: its oldest message waits too long.",
        queues,
        "AWS/SQS",
        "ApproximateAgeOfOldestMessage",
        Statistic.MAXIMUM,
        PerStage(dev=1800, prod=900),
        parts_with_own_threshold={"notifications": PerStage(dev=90_000, prod=90_000)},
    ),
    # Three: a failing event is tried three times, and so is a queue's message within a quarter of
    # an hour. A failure that succeeds on a retry alarms nobody.
    Symptom(
        "function-errors",
        "The function {part} keeps failing: it raises, times out, or runs out of memory.",
        functions,
        "AWS/Lambda",
        "Errors",
        Statistic.SUM,
        PerStage(dev=10, prod=3),
        seconds=900,
        # Look at a failing audit at once: it may fail because of what it should find.
        parts_with_own_threshold={"audit-ledgers": PerStage(dev=1, prod=1)},
    ),
    Symptom(
        "function-throttles",
        "Lambda refuses to run the function {part}: the account's concurrency is used up.",
        functions,
        "AWS/Lambda",
        "Throttles",
        Statistic.SUM,
        PerStage(dev=50, prod=5),
    ),
    # Lambda reports it nowhere else: no error, no throttle, no line in a log, no dead letter.
    Symptom(
        "recursive-invocations-dropped",
        "Lambda takes {part} for an endless loop and has dropped what it should have handled.",
        queue_readers,
        "AWS/Lambda",
        "RecursiveInvocationsDropped",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
        in_small=True,
    ),
    Symptom(
        "stream-age",
        "The function {part} is behind the ledger's stream, which forgets after 24 hours.",
        stream_readers,
        "AWS/Lambda",
        "IteratorAge",
        Statistic.MAXIMUM,
        PerStage(dev=3_600_000, prod=900_000),
    ),
    # A table that adapts to a larger load throttles briefly, and requests are repeated.
    Symptom(
        "table-read-throttles",
        "DynamoDB throttles reads of {part}.",
        tables_and_indexes,
        "AWS/DynamoDB",
        "ReadThrottleEvents",
        Statistic.SUM,
        PerStage(dev=500, prod=50),
        periods=2,
    ),
    Symptom(
        "table-write-throttles",
        "DynamoDB throttles writes to {part}.",
        tables_and_indexes,
        "AWS/DynamoDB",
        "WriteThrottleEvents",
        Statistic.SUM,
        PerStage(dev=500, prod=50),
        periods=2,
    ),
    Symptom(
        "api-5xx",
        "The API answers too many requests with an error of ours.",
        the_api,
        "AWS/ApiGateway",
        "5XXError",
        Statistic.AVERAGE,
        PerStage(dev=0.05, prod=0.01),
        periods=2,
    ),
    Symptom(
        "api-latency",
        "One request in a hundred to the API takes too long.",
        the_api,
        "AWS/ApiGateway",
        "Latency",
        Statistic.P99,
        PerStage(dev=5000, prod=2000),
        periods=3,
    ),
    # Twenty minutes without a tick. It also rings while a new stack waits for its first tick.
    Symptom(
        "allocation-ticks",
        "The allocation ticks have stopped: nobody will be allocated at the next midnight.",
        whole_service,
        NAMESPACE,
        "AllocationTicks",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
        periods=4,
        rings=Rings.BELOW,
        missing=Missing.IS_THE_FAILURE,
        in_small=True,
    ),
    Symptom(
        "expiry-ticks",
        "The expiry ticks have stopped: expired credits stay in the ledger, unspendable.",
        whole_service,
        NAMESPACE,
        "ExpiryTicks",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
        periods=4,
        rings=Rings.BELOW,
        missing=Missing.IS_THE_FAILURE,
        in_small=True,
    ),
    # The first re-sweep comes after a quarter of an hour: what it repairs alarms nobody.
    Symptom(
        "allocation-lateness",
        "Credits were allocated long after the user's month began.",
        whole_service,
        NAMESPACE,
        "AllocationLateness",
        Statistic.MAXIMUM,
        PerStage(dev=3600, prod=1800),
    ),
    Symptom(
        "allocations-missing",
        "Users who are due have no allocation for this month.",
        whole_service,
        NAMESPACE,
        "Missing",
        Statistic.MAXIMUM,
        PerStage(dev=1, prod=1),
        missing=Missing.SAYS_NOTHING,
        in_small=True,
    ),
    Symptom(
        "allocations-duplicate",
        "Users have more than one allocation for this month.",
        whole_service,
        NAMESPACE,
        "Duplicate",
        Statistic.MAXIMUM,
        PerStage(dev=1, prod=1),
        missing=Missing.SAYS_NOTHING,
        in_small=True,
    ),
    # Such a zone has no midnight any more, so no sweep comes: nothing else would notice.
    Symptom(
        "timezone-unknown",
        "Users live in a timezone that is no longer in the database: they are not swept.",
        whole_service,
        NAMESPACE,
        "TimezoneUnknown",
        Statistic.MAXIMUM,
        PerStage(dev=1, prod=1),
        missing=Missing.SAYS_NOTHING,
        in_small=True,
    ),
    Symptom(
        "ledger-corrupt",
        "A ledger does not verify: a line is missing, changed or wrong.",
        whole_service,
        NAMESPACE,
        "LedgersCorrupt",
        Statistic.MAXIMUM,
        PerStage(dev=1, prod=1),
        missing=Missing.SAYS_NOTHING,
        in_small=True,
    ),
    # The failure concerns one user or record, and comes back until somebody looks. If it stops
    # work, the message also becomes a dead letter, half an hour later.
    Symptom(
        "unexpected-failures",
        "Something stored cannot be read, or a bug was met; the other users were served.",
        whole_service,
        NAMESPACE,
        "UnexpectedFailures",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
    ),
    Symptom(
        "ledger-changed",
        "Somebody changed or removed items of the ledger: a person's erasure, or tampering.",
        whole_service,
        NAMESPACE,
        "LedgerItemsChanged",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
        in_small=True,
    ),
    # Stripe sends an event again for three days, at first within minutes and then every few hours.
    Symptom(
        "stripe-events-waiting",
        "Stripe sent an event that cannot be done yet: somebody may have paid and got nothing.",
        whole_service,
        NAMESPACE,
        "StripeEventsWaiting",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
        seconds=3600,
        in_small=True,
    ),
    # Emails above SES's rate are normal and are not counted. Some addresses always fail.
    Symptom(
        "mails-failed",
        "Emails have kept failing for an hour.",
        whole_service,
        NAMESPACE,
        "MailsFailed",
        Statistic.SUM,
        PerStage(dev=100, prod=10),
        seconds=900,
        periods=4,
    ),
    # SES reviews an account at 5 % and 0.1 %, and stops it at double that: the alarm rings at half
    # of it. SES publishes both metrics only from time to time. They are about the whole account, as
    # a review is.
    Symptom(
        "mail-bounces",
        "Half way to SES's review of the account for bounces (5 %).",
        whole_account,
        "AWS/SES",
        "Reputation.BounceRate",
        Statistic.AVERAGE,
        PerStage(dev=0.025, prod=0.025),
        seconds=3600,
        missing=Missing.SAYS_NOTHING,
    ),
    Symptom(
        "mail-complaints",
        "Half way to SES's review of the account for complaints (0.1 %).",
        whole_account,
        "AWS/SES",
        "Reputation.ComplaintRate",
        Statistic.AVERAGE,
        PerStage(dev=0.0005, prod=0.0005),
        seconds=3600,
        missing=Missing.SAYS_NOTHING,
    ),
)


def metrics_of_small() -> list[str]:
    """The custom metrics that a small stage writes: those that its alarms read."""
    return sorted(
        symptom.metric
        for symptom in SYMPTOMS
        if symptom.in_small and symptom.namespace == NAMESPACE
    )
