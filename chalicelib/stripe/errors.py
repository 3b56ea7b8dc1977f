"""The refusals of the webhook of Stripe; the rest of the tree is in `domain.errors`.

CreditsError
├── WrongSignature    the request is not Stripe's, or too old
├── NotSetUp          the stage has no secret of Stripe's yet
└── Waiting           what it takes to do what the event says is not known yet
"""

from chalicelib.domain.errors import CreditsError


class WrongSignature(CreditsError):
    """The request was not signed by Stripe, or was signed too long ago."""

    code = "wrong_signature"


class NotSetUp(CreditsError):
    """The stage's secret does not hold a signing secret of Stripe's."""

    code = "not_set_up"


class Waiting(CreditsError):
    """An event that cannot be done yet, and that Stripe is to send again. The message says why."""

    code = "waiting"
