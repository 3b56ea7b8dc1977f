"""The errors of sending an email. No message names an address, or quotes SES, which does.

CreditsError
└── MailNotSent
    ├── MailPostponed     SES accepts no email at the moment: try again later
    ├── MailRefused       SES refuses this email, and will again until somebody fixes something
    ├── MailInDoubt       unknown whether it was sent: it must not be sent again
    └── MailsUnrecorded   the table of emails did not answer: later, or in doubt, as it then says
"""

from chalicelib.domain.errors import CreditsError


class MailNotSent(CreditsError):
    """The root of the tree; never raised itself."""

    code = "mail_not_sent"


class MailPostponed(MailNotSent):
    """SES accepts no email at the moment; this one was certainly not sent."""

    code = "mail_postponed"


class MailRefused(MailNotSent):
    """SES refuses this email; it was certainly not sent."""

    code = "mail_refused"


class MailInDoubt(MailNotSent):
    """The email may have been sent."""

    code = "mail_in_doubt"


class MailsUnrecorded(MailNotSent):
    """An email, sent or about to be sent, could not be recorded."""

    code = "mails_unrecorded"
