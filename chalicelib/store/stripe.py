"""The table of what is known of Stripe's customers and payments.

Keys of table ``stripe``: partition ``about``, sort ``part``.

    customer#cus_1   -          the user who is this customer, for good
    payment#pi_1     -          what was refunded and disputed of a payment, in money
    waiting          sub_1      what cannot be done yet, and why; goes by itself after 30 days
"""

from pynamodb.connection import Connection

from chalicelib.retries import Pause, pause_with_jitter

from .database import describe


class StripeStore:
    """All access to the table."""

    def __init__(
        self, connection: Connection, table: str, pause: Pause = pause_with_jitter
    ) -> None:
        self._connection = connection
        self._table = table
        self._pause = pause
        describe(connection, table, ("about", "part"))
