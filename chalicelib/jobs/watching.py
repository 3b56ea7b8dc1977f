"""The second reader of the ledger's stream: it reports forbidden changes and keeps the anchors.

An entry is written once, and so is a marker or a link: a change or a removal is a person's work, an
erasure or something worse, and is told at once. What was written becomes an anchor, at the latest
five minutes after it. No more than two readers may read a stream at once, or they are throttled.
(Amazon DynamoDB Developer Guide, "Change data capture for DynamoDB Streams",
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html)
"""

from chalicelib.domain.anchors import Head
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.metrics import Metric, count
from chalicelib.observability import logger
from chalicelib.services import Services
from chalicelib.store.ledger_items import read_head

from .records import Event


def watch_ledger(services: Services, event: Event) -> None:
    """Tells of every change, and keeps the heads of a batch of records.

    Raises when S3 does not take them: the stream then delivers the same records again, and what
    was told is told once more.
    """
    heads: dict[str, Head] = {}
    for record in event["Records"]:
        keys = record["dynamodb"]["Keys"]
        named = {"user_id": keys["user_id"]["S"], "item": keys["entry"]["S"]}
        if record["eventName"] != "INSERT":
            count(Metric.LEDGER_ITEMS_CHANGED)
            logger().error("ledger item changed", extra={**named, "change": record["eventName"]})
            continue
        try:
            head = read_head({**record["dynamodb"]["NewImage"], **keys})
        except LedgerCorrupt as error:
            count(Metric.LEDGERS_CORRUPT)
            logger().error("ledger corrupt", extra={**named, "problem": error.reason})
        else:
            heads[head.user] = max(head, heads.get(head.user, head))
    if heads:
        services.anchors.keep(heads.values(), services.now())
