"""The pages behind the unsubscribe links in emails. The link is signed, so there is no login.

Opening the page changes nothing, because email scanners open every link. A POST changes the
subscription: the button on the page sends one, and so does the button of email programs (RFC 8058),
which shows no page at all.

A page is in the language of the user's emails. If the user is unknown or erased, it is in the
browser's language, so that the page looks the same for both.
"""

from collections.abc import Sequence
from contextlib import suppress

from chalicelib.domain.edits import BY_LINK
from chalicelib.domain.errors import InvalidInput, NotFound
from chalicelib.domain.languages import DEFAULT, Language, preferred
from chalicelib.domain.subscriptions import Subscription, without_mails
from chalicelib.mails.links import Unsubscription
from chalicelib.mails.rendering import Button, page_words, render_page
from chalicelib.product import Product

from .answers import Answer
from .calls import Call


def show(call: Call) -> Answer:
    """The page that asks for confirmation."""
    asked = _asked(call)
    if asked is None:
        return _invalid(call)
    found = call.services.subscriptions.find(asked.user_id)
    language = found.language if found else _of_browser(call)
    links = call.services.unsubscribe_links
    buttons = [
        Button(
            page_words("stop" if kind else "stop_all", language, kind),
            links.token(asked.user_id, kind),
        )
        for kind in ((asked.kind, None) if asked.kind else (None,))
    ]
    return _page(call, language, "question", "", buttons)


def unsubscribe(call: Call) -> Answer:
    """Ends the emails that the link is about; doing it again changes nothing.

    For an erased user the answer is the same, so it does not reveal who was erased.
    """
    asked = _asked(call)
    if asked is None:
        return _invalid(call)
    language = _of_browser(call)

    def decide(present: Subscription | None) -> Subscription:
        if present is None:
            raise NotFound(f"there is no user {asked.user_id}")
        return without_mails(present, asked.kind)

    with suppress(NotFound):
        language = call.services.subscriptions.change(
            asked.user_id, decide, BY_LINK, call.services.now()
        ).language
    words = page_words("fewer" if asked.kind else "none", language, asked.kind)
    return _page(call, language, "done", words)


def _asked(call: Call) -> Unsubscription | None:
    """The link's content; None if it is not ours. Raises `InvalidInput` for other parameters."""
    query = call.query()
    token = query.optional("token", lambda _, value: str(value))
    query.finish()
    try:
        return call.services.unsubscribe_links.read(token or "")
    except InvalidInput:
        return None


def _of_browser(call: Call) -> Language:
    return preferred(call.header("accept-language") or "") or DEFAULT


def _invalid(call: Call) -> Answer:
    language = _of_browser(call)
    return _page(call, language, "broken", page_words("advice", language), status=400)


def _page(
    call: Call,
    language: Language,
    title: str,
    words: str,
    buttons: Sequence[Button] = (),
    status: int = 200,
) -> Answer:
    product = call.services.settings.product
    content = render_page(product, language, page_words(title, language), words, buttons)
    return Answer(content, status, _headers(product))


def _headers(product: Product) -> dict[str, str]:
    images = f"img-src {product.logo_origin}; " if product.logo_url else ""
    return {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": (
            f"default-src 'none'; style-src 'unsafe-inline'; {images}form-action 'self'; "
            "frame-ancestors 'none'"
        ),
    }
