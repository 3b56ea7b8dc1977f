"""The second reader of the ledger's stream: it reports forbidden changes and keeps the anchors.

Entries, markers and links are written once. Only people change or remove them, in an erasure or
something worse, so that is reported at once. A new entry becomes an anchor within five minutes. At
most two readers may read a stream at once, or they are throttled. (Amazon DynamoDB Developer Guide,
"Change data capture for DynamoDB Streams",
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
    """Reports every change, and keeps the heads of a batch of records.

    Raises when S3 does not accept them: then the stream delivers the same records again, and the
    changes are reported again.
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
