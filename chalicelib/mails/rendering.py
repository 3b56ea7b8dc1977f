"""Turns facts into an email, and a question into the page behind its link.

The words are in ``templates/<language>.toml``, one file for each language, by kind; the layouts are
``mail.html``, ``mail.txt`` and ``page.html``. The words can use the values from `facts`. Values are
always escaped in HTML. A misspelt name is an error, not a gap.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    Template,
    pass_context,
    select_autoescape,
)

from chalicelib import toml_file
from chalicelib.domain.calendar import Period
from chalicelib.domain.languages import DEFAULT, Language
from chalicelib.domain.notifications import MailKind
from chalicelib.product import Product
from chalicelib.toml_file import FileError

TEMPLATES = Path(__file__).parent / "templates"

_PLACES = ("subject", "preheader", "lead", "quote", "closing")
"""The parts of an email besides its rows and notes."""

_HALF_A_YEAR = timedelta(days=183)

_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Mail:
    """An email, ready to be sent to somebody."""

    kind: MailKind
    subject: str
    text: str
    html: str
    unsubscribe_url: str


class Frame(NamedTuple):
    """What an email has besides the facts: the recipient, the language, and the unsubscribe link.

    ``witness``: the number and the first digits of the hash of the last entry that the email
    mentions. With them one can prove later what the ledger was. Nothing here changes the identity
    of the email.
    """

    product: Product
    language: Language
    unsubscribe_url: str
    unsubscribe_all_url: str
    witness: str = ""


class Button(NamedTuple):
    """A button of a page, and the token that it sends."""

    label: str
    token: str


def render(kind: MailKind, facts: Mapping[str, object], frame: Frame) -> Mail:
    """The email of a kind about some facts."""
    shared = {**frame._asdict(), "language": frame.language.value}
    text, html = (
        shared | _writer(frame.language, space).words_of(kind, facts, frame)
        for space in (" ", _NO_BREAK_SPACE)
    )
    return Mail(
        kind,
        text["subject"],
        _layouts().get_template("mail.txt").render(text).strip() + "\n",
        # Email programs shorten a subject as they like, and find it by its spaces.
        _layouts().get_template("mail.html").render(html, title=text["subject"]),
        frame.unsubscribe_url,
    )


def subject_of(kind: MailKind, facts: Mapping[str, object], language: Language) -> str:
    """The subject of the email of a kind about some facts."""
    return _writer(language, " ").write(texts_of(language)[kind.value]["subject"], facts)


def page_words(name: str, language: Language, kind: MailKind | None = None) -> str:
    """The words of a page behind a link in an email, which can be about a kind of email."""
    writer = _writer(language, " ")
    about = {"about": about_in_words(kind, language)} if kind else {}
    return writer.write(texts_of(language)["page"][name], about)


def render_page(
    product: Product, language: Language, title: str, words: str, buttons: Sequence[Button] = ()
) -> str:
    """A page behind a link in an email, as HTML."""
    return (
        _layouts()
        .get_template("page.html")
        .render(
            language=language.value,
            product=product,
            title=title,
            words=words,
            buttons=buttons,
            support=texts_of(language)["frame"]["support"],
        )
    )


@cache
def texts_of(language: Language) -> dict[str, Any]:
    """The texts of a language, as in its file."""
    file = TEMPLATES / f"{language.value}.toml"
    return toml_file.read(file.read_text(encoding="utf-8"), file.name, lambda *_: (), FileError)


def about_in_words(kind: MailKind, language: Language = DEFAULT) -> str:
    """What a kind of email is about."""
    words: str = texts_of(language)[kind.value]["about"]
    return words


def credits_in_words(amount: int, language: Language = DEFAULT, space: str = " ") -> str:
    """``1 credit``, ``2,000 credits``."""
    writing = texts_of(language)["writing"]
    number = f"{amount:,}".replace(",", writing["thousands"])
    return _joined(writing["one" if amount == 1 else "many"].format(amount=number), space)


def day_in_words(day: date, told_on: date, language: Language = DEFAULT, space: str = " ") -> str:
    """``30 May``; with the year, unless that is clear on the day ``told_on``."""
    writing = texts_of(language)["writing"]
    form = writing["day" if _is_near(day, told_on) else "day_of_year"]
    month = writing["months"][day.month - 1]
    return _joined(form.format(day=day.day, month=month, year=day.year), space)


def month_in_words(
    period: Period, told_on: date, language: Language = DEFAULT, space: str = " "
) -> str:
    """``May``; with the year, unless that is clear on the day ``told_on``."""
    writing = texts_of(language)["writing"]
    month: str = writing["months"][period.month - 1]
    if _is_near(period.first_day, told_on):
        return month
    return _joined(writing["month_of_year"].format(month=month, year=period.year), space)


class _Writer:
    """Writes the texts of a language; dates and amounts contain ``space`` as their space."""

    def __init__(self, language: Language, space: str) -> None:
        self._language, self._texts = language, texts_of(language)
        # The layouts escape what is written here.
        self._environment = Environment(  # noqa: S701
            undefined=StrictUndefined, trim_blocks=True
        )
        self._environment.filters |= {
            "credits": lambda amount: credits_in_words(amount, language, space),
            "day": pass_context(
                lambda told, day: day_in_words(day, told["told_on"], language, space)
            ),
            "month": pass_context(
                lambda told, period: month_in_words(period, told["told_on"], language, space)
            ),
        }
        self._compiled: dict[str, Template] = {}

    def words_of(self, kind: MailKind, facts: Mapping[str, object], frame: Frame) -> dict[str, Any]:
        """The whole content of an email, by its place in the layouts."""
        texts = self._texts[kind.value]
        about = {
            "about": about_in_words(kind, self._language),
            "product": frame.product,
            "witness": frame.witness,
        }
        return {
            **{name: self.write(texts.get(name, ""), facts) for name in _PLACES},
            "rows": list(self._rows(texts["rows"], facts)),
            "notes": [note for text in texts.get("notes", ()) if (note := self.write(text, facts))],
            "frame": {name: self.write(text, about) for name, text in self._texts["frame"].items()},
        }

    def write(self, text: str, values: Mapping[str, object]) -> str:
        """A text with its values filled in."""
        if text not in self._compiled:
            self._compiled[text] = self._environment.from_string(text)
        return self._compiled[text].render(values).strip()

    def _rows(
        self, rows: Sequence[Sequence[str]], facts: Mapping[str, Any]
    ) -> Iterator[tuple[str, str]]:
        """Labels and values. A third word names facts that get a row each: each is an ``item``."""
        for label, value, *each in rows:
            for item in facts[each[0]] if each else (None,):
                values = {**facts, "item": item}
                if written := self.write(value, values):
                    yield self.write(label, values), written


@cache
def _writer(language: Language, space: str) -> _Writer:
    return _Writer(language, space)


@cache
def _layouts() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _is_near(day: date, told_on: date) -> bool:
    """Whether people know the year of a date without being told."""
    return abs(day - told_on) <= _HALF_A_YEAR


def _joined(words: str, space: str) -> str:
    return words.replace(" ", space)
