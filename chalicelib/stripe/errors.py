"""The refusals of the webhook of Stripe; the rest of the tree is in `domain.errors`.

CreditsError
├── WrongSignature    the request is not Stripe's, or too old
├── NotSetUp          the stage does not have Stripe's secret yet
└── Waiting           something that the event needs is not known yet
"""

from chalicelib.domain.errors import CreditsError


class WrongSignature(CreditsError):
    """The request was not signed by Stripe, or was signed too long ago."""

    code = "wrong_signature"


class NotSetUp(CreditsError):
    """The stage's secret does not hold a signing secret of Stripe's."""

    code = "not_set_up"


class Waiting(CreditsError):
    """An event that cannot be done yet; Stripe must send it again. The message says why."""

    code = "waiting"
