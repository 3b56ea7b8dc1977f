"""The pages behind the unsubscribe links in emails. The link is signed, so there is no login.

Opening the page changes nothing, because email scanners open every link. A POST changes the
subscription: the button on the page sends one, and so does the button of email programs (RFC 8058),
which shows no page at all.
"""

from contextlib import suppress
from html import escape

from chalicelib.domain.edits import BY_LINK
from chalicelib.domain.errors import InvalidInput, NotFound
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.subscriptions import Subscription, without_mails

from .answers import Answer
from .calls import Call

_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    ),
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{title}</title>
<style>
body {{ font: 17px/1.5 system-ui, sans-serif; max-width: 30em; margin: 12vh auto; padding: 0 1em }}
h1 {{ font-size: 1.4em }}
form {{ margin: 1em 0 }}
button {{ font: inherit; padding: .6em 1em; cursor: pointer }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"""

_FORM = """<form method="post" action="?token={token}"><button>{words}</button></form>"""


def show(call: Call) -> Answer:
    """The page that asks for confirmation."""
    token = _token(call)
    links = call.services.unsubscribe_links
    try:
        asked = links.read(token)
    except InvalidInput:
        return _invalid()
    forms = [
        _FORM.format(token=links.token(asked.user_id, kind), words=escape(words))
        for kind, words in _choices(asked.kind)
    ]
    return _page("Which mails should stop?", "\n".join(forms))


def unsubscribe(call: Call) -> Answer:
    """Ends the emails that the link is about; doing it again changes nothing.

    An erased user gets no more emails either, so the answer is the same: it reveals to nobody who
    was erased.
    """
    token = _token(call)
    try:
        asked = call.services.unsubscribe_links.read(token)
    except InvalidInput:
        return _invalid()

    def decide(present: Subscription | None) -> Subscription:
        if present is None:
            raise NotFound(f"there is no user {asked.user_id}")
        return without_mails(present, asked.kind)

    with suppress(NotFound):
        call.services.subscriptions.change(asked.user_id, decide, BY_LINK, call.services.now())
    about = f" about {escape(asked.kind.words)}" if asked.kind else ""
    return _page("Done", f"<p>You will get no more mails{about} from us.</p>")


def _token(call: Call) -> str:
    """The token of the link; empty if it has none, so the link is not ours."""
    query = call.query()
    token = query.optional("token", lambda _, value: str(value))
    query.finish()
    return token or ""


def _choices(kind: MailKind | None) -> list[tuple[MailKind | None, str]]:
    everything: tuple[MailKind | None, str] = (None, "Stop all mails about credits")
    return [everything] if kind is None else [(kind, f"Stop mails about {kind.words}"), everything]


def _page(title: str, content: str, status: int = 200) -> Answer:
    return Answer(_PAGE.format(title=escape(title), content=content), status, _HEADERS)


def _invalid() -> Answer:
    return _page(
        "This link does not work",
        "<p>It is not complete. Please use the link in the mail as it is.</p>",
        status=400,
    )
