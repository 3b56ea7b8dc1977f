"""Logs who looked at somebody else's credits: one line for each such request.

The ledger itself names who used, granted, clawed back or reversed credits, so a request that made
an entry is not logged again. Every other request that names another user is logged, whatever its
result: a read, a dry run, an edit (its answer shows the subscription), a refused use (its answer
shows the balance), and every request that the caller's scopes do not allow. Users who read their
own credits are not logged.

The line has ids, scopes, the route and the status. docs/logs.md says how to query it.
"""

from http import HTTPStatus

from chalicelib.observability import logger

from .answers import Answer
from .calls import Call
from .principal import name_in_logs

MESSAGE = "access to credits of others"


def leave(call: Call, answer: Answer) -> None:
    """Logs who asked for whose credits, and the answer, except for requests about oneself."""
    has_entry = call.is_post and answer.status < HTTPStatus.BAD_REQUEST
    if not call.is_authenticated or (has_entry and not answer.tells_of):
        return
    principal = call.principal
    others = (answer.tells_of | call.names()) - {principal.user_id}
    if others:
        logger().info(
            MESSAGE,
            caller=name_in_logs(principal.caller),
            scopes=" ".join(sorted(principal.scopes)),
            route=call.route,
            status=answer.status,
            # A text, not a list: CloudWatch makes a field of each element, and only a few hundred
            # fields.
            user_ids=" ".join(sorted(others)),
        )
