"""Turns facts into an email with the templates in ``templates/``, which designers edit.

Each kind of email has two templates: ``<kind>.txt``, whose first line is the subject, and
``<kind>.html``. They can use the values from `facts`. Values are always escaped in HTML. A misspelt
name in a template is an error, not a gap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from chalicelib.domain.notifications import MailKind

TEMPLATES = Path(__file__).parent / "templates"

_SUBJECT = "Subject: "


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail, ready to be sent to somebody."""

    kind: MailKind
    subject: str
    text: str
    html: str
    unsubscribe_url: str


def render(
    kind: MailKind, facts: Mapping[str, object], unsubscribe_url: str, unsubscribe_all_url: str
) -> Mail:
    """The mail of a kind about some facts."""
    values: dict[str, Any] = {
        **facts,
        "kind": kind.value,
        "kind_words": kind.words,
        "unsubscribe_url": unsubscribe_url,
        "unsubscribe_all_url": unsubscribe_all_url,
    }
    whole = _environment().get_template(f"{kind.value}.txt").render(values)
    first_line, _, text = whole.partition("\n")
    if not first_line.startswith(_SUBJECT):
        raise ValueError(f"the first line of {kind.value}.txt must begin with {_SUBJECT!r}")
    subject = first_line.removeprefix(_SUBJECT).strip()
    html = _environment().get_template(f"{kind.value}.html").render(values, subject=subject)
    return Mail(kind, subject, text.strip() + "\n", html, unsubscribe_url)


def credits_in_words(amount: int) -> str:
    """``1 credit``, ``2,000 credits``."""
    return f"{amount:,} credit{'' if amount == 1 else 's'}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["credits"] = credits_in_words
    return environment
