"""The parts of sending an email: templates, links, the pace, and what is asked of SES."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.header import decode_header, make_header
from email.utils import parseaddr
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from botocore import exceptions
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from jinja2 import UndefinedError

from chalicelib.domain import ledger
from chalicelib.domain.batches import CreditBatch, Leg
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import EntryType, LedgerEntry, Refund, without_texts
from chalicelib.domain.errors import InvalidInput, LedgerCorrupt
from chalicelib.domain.forecasts import NoRate, Spending
from chalicelib.domain.holds import Hold
from chalicelib.domain.languages import Language
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import SubscriptionStatus
from chalicelib.mails import facts
from chalicelib.mails.errors import MailInDoubt, MailPostponed, MailRefused
from chalicelib.mails.links import UnsubscribeLinks, read_key
from chalicelib.mails.rendering import (
    TEMPLATES,
    Frame,
    Mail,
    credits_in_words,
    day_in_words,
    month_in_words,
    render,
    render_page,
    texts_of,
)
from chalicelib.mails.sending import Mailer, Pace, user_of_tag
from chalicelib.observability import correlated
from chalicelib.product import Product
from chalicelib.settings import Settings
from infra.pages.mail_pictures import LIGHTHOUSE, examples
from tests.unit.test_subscriptions import ADA, CATALOGUE

LINKS = UnsubscribeLinks(b"k" * 32, "https://api.example.com/v1/api/unsubscribe")

# --- Templates ----------------------------------------------------------------------------------


def test_there_is_an_example_of_every_kind_and_each_says_its_fact_in_the_subject() -> None:
    subjects = {mail.kind: mail.subject for mail in examples()}
    assert subjects == {
        MailKind.ALLOCATION: "Your May credits are here",
        MailKind.MANUAL: "50 credits added to your account",
        MailKind.EXPIRING_SOON: "40 credits expire on 30 May",
        MailKind.EXPIRATION: "40 credits expired on 30 May",
        MailKind.PURCHASE: "Your 500 credits are here",
        MailKind.REFUND: "250 credits taken back after a refund",
        MailKind.LOW_BALANCE: "15 credits left",
    }


def test_the_same_is_said_in_german() -> None:
    mails = list(examples(language=Language.GERMAN))
    assert all(texts_of(Language.GERMAN)[mail.kind]["about"] in mail.text for mail in mails)
    subjects = {mail.kind: mail.subject for mail in mails}
    assert subjects == {
        MailKind.ALLOCATION: "Ihre Credits für Mai sind da",
        MailKind.MANUAL: "50 Credits gutgeschrieben",
        MailKind.EXPIRING_SOON: "40 Credits verfallen am 30. Mai",
        MailKind.EXPIRATION: "40 Credits sind am 30. Mai verfallen",
        MailKind.PURCHASE: "Ihre 500 Credits sind da",
        MailKind.REFUND: "250 Credits nach einer Erstattung zurückgenommen",
        MailKind.LOW_BALANCE: "Noch 15 Credits übrig",
    }


@pytest.mark.parametrize("language", Language)
def test_every_language_has_all_texts_of_english_and_no_others(language: Language) -> None:
    def places(texts: dict[str, Any]) -> dict[str, Any]:
        """The names of the texts of each table, and how many rows and notes each has."""
        return {
            table: {
                name: [len(row) if isinstance(row, list) else 1 for row in text]
                if isinstance(text, list)
                else None
                for name, text in named.items()
            }
            for table, named in texts.items()
        }

    assert places(texts_of(language)) == places(texts_of(Language.ENGLISH))
    assert {*MailKind} == texts_of(language).keys() - {"writing", "frame", "page"}
    assert {path.stem for path in TEMPLATES.glob("*.toml")} == {*Language}


@pytest.mark.parametrize("language", Language)
def test_what_is_different_for_one_credit_or_in_other_cases_is_written_in_every_language(
    language: Language,
) -> None:
    """No text names a fact that is not there, whichever way it turns."""
    told_on, day = date(2026, 12, 20), {"last_day": date(2027, 9, 30)}
    some: dict[str, Any] = {
        "told_on": told_on,
        "balance": 5,
        "balance_cap": 9,
        "period": Period(2026, 12),
        "reason": "Why",
        "description": "Pack",
        "payment_id": "p",
        "metadata": {},
        "last_day": told_on,
        "batches": [{"amount": 1, "granted_on": told_on}],
    }
    turns = itertools.product(
        (0, 1, 2_000),
        (True, False),
        (day, None),
        (0, 3),
        (None, {"amount": 7, "on": told_on}),
        (None, {"days": 1, "runs_out_on": None}, {"days": 30, "runs_out_on": told_on}),
    )
    for amount, is_so, expiry, left_out, upcoming, pace in turns:
        for kind in MailKind:
            if kind is MailKind.EXPIRING_SOON and expiry is None:
                continue
            told = some | {"amount": amount, "expiry": expiry, "left_out": left_out}
            told |= dict.fromkeys(("is_first", "is_grant", "is_given_back"), is_so)
            told |= {"next": upcoming and {**upcoming, "is_capped": is_so}, "pace": pace}
            frame = Frame(LIGHTHOUSE, language, "https://one", "https://all", "15:ab12cd34ef56")
            mail = render(kind, told, frame)
            assert mail.subject
            assert "  " not in mail.subject + mail.text.replace("\n  ", "")
            assert "{" not in mail.text + mail.html.partition("</style>")[2]


def test_a_date_says_its_year_only_where_people_would_not_know_it() -> None:
    told_on = date(2026, 12, 20)
    for day, english, german in (
        (date(2026, 12, 1), "1 December", "1. Dezember"),
        (date(2027, 1, 5), "5 January", "5. Januar"),
        (date(2027, 6, 21), "21 June", "21. Juni"),
        (date(2027, 6, 22), "22 June 2027", "22. Juni 2027"),
        (date(2026, 3, 1), "1 March 2026", "1. März 2026"),
    ):
        assert day_in_words(day, told_on) == english
        assert day_in_words(day, told_on, Language.GERMAN) == german
    assert month_in_words(Period(2027, 1), told_on) == "January"
    assert month_in_words(Period(2026, 3), told_on, Language.GERMAN) == "März 2026"
    assert month_in_words(Period(2026, 3), told_on, space="_") == "March_2026"
    assert day_in_words(told_on, told_on, space="_") == "20_December"
    assert day_in_words(date(2026, 3, 1), told_on, space="_") == "1_March_2026"


def test_an_email_names_the_product_and_leads_into_it() -> None:
    for mail in examples():
        for text in (mail.text, mail.html):
            for word in (LIGHTHOUSE.name, LIGHTHOUSE.url, LIGHTHOUSE.address, LIGHTHOUSE.support):
                assert word in text
        assert f'<img src="{LIGHTHOUSE.logo_url}"' in mail.html
        assert 'href="mailto:help@example.com"' in mail.html


def test_what_is_not_known_of_the_product_leaves_no_gap() -> None:
    for mail in examples(Product()):
        assert "<img" not in mail.html
        assert 'href=""' not in mail.html
        assert "mailto:" not in mail.html
        assert "\n\n\n" not in mail.text
        assert mail.text.endswith("\n\nCredits\n")


def test_a_web_address_for_support_is_a_link_and_takes_no_replies() -> None:
    product = Product(support="https://example.com/help/")
    assert (product.support_link, product.support_shown) == (
        "https://example.com/help/",
        "example.com/help",
    )
    assert product.replies_to is None
    assert Product(support="help@example.com").replies_to == "help@example.com"
    assert Product().replies_to is None
    # A policy names the origin alone: with its port, and without a path.
    logo = Product(logo_url="https://static.example.com:8443/a/logo.png?v=2")
    assert logo.logo_origin == "https://static.example.com:8443"
    assert (Product().logo_origin, Product().name) == ("", "Credits")
    assert Product(support="https@example.com").replies_to == "https@example.com"


def test_a_page_is_in_its_language_down_to_its_foot() -> None:
    page = render_page(Product(support="help@example.com"), Language.GERMAN, "Fertig", "Ende")
    assert '<html lang="de"' in page
    assert texts_of(Language.GERMAN)["frame"]["support"] in page


def test_a_name_of_a_product_is_text_in_the_page_and_in_the_email() -> None:
    product = Product(name="<b>&", address="<i>")
    (mail, *_) = examples(product)
    page = render_page(product, Language.ENGLISH, "Done", "")
    for html in (mail.html, page):
        assert "<b>" not in html
        assert "<i>" not in html
        assert "&lt;b&gt;&amp;" in html


def test_every_email_has_both_forms_and_both_links_in_both() -> None:
    for mail in examples():
        for text in (mail.text, mail.html):
            assert text.count("https://api.example.com/v1/api/unsubscribe?token=") >= 2
        assert "<" not in mail.text
        assert "{" not in mail.text
        assert f"<title>{mail.subject}</title>" in mail.html


def test_the_text_has_no_gaps_where_lines_were_left_out() -> None:
    for mail in examples():
        assert "\n\n\n" not in mail.text, mail.text


FRAME = Frame(Product(), Language.ENGLISH, "one", "all")
MANUAL: dict[str, Any] = {
    "told_on": date(2026, 5, 1),
    "amount": 1,
    "is_grant": True,
    "reason": "Because",
    "balance": 1,
    "expiry": None,
}


def test_each_batch_that_expired_has_a_row_with_its_own_date_and_amount() -> None:
    batches = [{"amount": n, "granted_on": date(2026, n, n)} for n in (3, 4)]
    told = {"told_on": date(2026, 5, 1), "amount": 7, "last_day": date(2026, 4, 30), "balance": 0}
    text = render(MailKind.EXPIRATION, told | {"batches": batches}, FRAME).text
    assert "Granted on 3 March: 3 credits\nGranted on 4 April: 4 credits\n" in text


def test_what_is_missing_from_the_facts_is_an_error_and_not_a_gap() -> None:
    known = {name: value for name, value in MANUAL.items() if name != "reason"}
    with pytest.raises(UndefinedError, match="reason"):
        render(MailKind.MANUAL, known, FRAME)


@pytest.mark.parametrize("reason", ["<script>alert(1)</script>", '"><img src=x>', "{{ 7 * 7 }}"])
def test_whatever_a_reason_holds_it_is_text(reason: str) -> None:
    mail = render(MailKind.MANUAL, {**MANUAL, "reason": reason}, FRAME)
    assert reason in mail.text
    assert "<script" not in mail.html
    assert "<img" not in mail.html
    assert "49" not in mail.html


def test_one_credit_is_a_credit() -> None:
    assert [credits_in_words(amount) for amount in (0, 1, 2, 2_000)] == [
        "0 credits",
        "1 credit",
        "2 credits",
        "2,000 credits",
    ]
    assert credits_in_words(2_000_000, Language.GERMAN) == "2.000.000 Credits"
    assert credits_in_words(1, Language.GERMAN) == "1 Credit"


# --- Links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*MailKind, None])
def test_a_link_says_whose_emails_of_which_kind_end(kind: MailKind | None) -> None:
    for user_id in ("42", "a.b_c:d@e|f+g=h-i", "x" * 128):
        token = LINKS.link(user_id, kind).partition("?token=")[2]
        assert LINKS.read(token) == (user_id, kind)


@pytest.mark.parametrize(
    ("user_id", "kind", "token"),
    [
        ("42", MailKind.MANUAL, "bWFudWFsIDQy.MZ26Q_Yt4Rq5o1BhbybAFMySlsXrdyEVRYDEZfs5rCM"),
        ("42", None, "KiA0Mg.CTV1cnarQqIEm2wVkFmA5GF86nxbEbDduQely58DtNA"),
        (
            "a.b_c:d@e|f+g=h-i",
            MailKind.LOW_BALANCE,
            "bG93X2JhbGFuY2UgYS5iX2M6ZEBlfGYrZz1oLWk.rg5noQi0I6tFILHv3z5CFxzZ_uDE46ysIIOSAC6EZe4",
        ),
    ],
)
def test_a_link_in_an_email_that_was_sent_long_ago_still_works(
    user_id: str, kind: MailKind | None, token: str
) -> None:
    link = f"https://api.example.com/v1/api/unsubscribe?token={token}"
    assert LINKS.link(user_id, kind) == link, "every link that was ever sent is dead"
    assert LINKS.read(token) == (user_id, kind)


def test_a_link_of_another_key_is_refused() -> None:
    other = UnsubscribeLinks(b"j" * 32, "https://api.example.com")
    with pytest.raises(InvalidInput, match="token"):
        LINKS.read(other.token("42", None))
    # One that is longer than any of ours is not even decoded.
    with pytest.raises(InvalidInput, match="token"):
        LINKS.read(LINKS.token("x" * 270, None))


def test_changing_any_character_of_a_token_breaks_it() -> None:
    token = LINKS.token("42", MailKind.MANUAL)
    for place in range(len(token) - 1):  # the last one carries bits that are not used
        changed = "A" if token[place] != "A" else "B"
        with pytest.raises(InvalidInput):
            LINKS.read(token[:place] + changed + token[place + 1 :])
    for changed in (f" {token}", f"{token}\n", f"{token[:5]}!{token[5:]}", f"{token}!"):
        with pytest.raises(InvalidInput):
            LINKS.read(changed)


def test_the_key_is_the_secret_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chalicelib.aws.read_secret", lambda *asked: f" {asked}" + "é" * 40)
    assert read_key("eu-west-1", "links") == (" ('eu-west-1', 'links')" + "é" * 40).encode()


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        UnsubscribeLinks(b"k" * 31, "https://api.example.com")


# --- The pace -----------------------------------------------------------------------------------


def test_a_pace_lets_pass_evenly_and_no_faster() -> None:
    now = 100.0
    slept: list[float] = []
    pace = Pace(4, clock=lambda: now, sleep=slept.append)
    for _ in range(4):
        pace.wait()
    assert slept == [0.25, 0.5, 0.75]
    now = 110.0
    pace.wait()
    assert len(slept) == 3  # what was not used is not caught up on in a burst, nor waited for
    pace.wait()
    assert slept[-1] == 0.25
    seldom = Pace(0.5, clock=lambda: now, sleep=slept.append)
    for _ in range(2):
        seldom.wait()
    assert slept[-1] == 2


def test_without_a_rate_nobody_waits() -> None:
    slept: list[float] = []
    pace = Pace(0, sleep=slept.append)
    for _ in range(100):
        pace.wait()
    assert slept == []


def test_senders_share_the_rate_of_the_account() -> None:
    environment = {"STAGE": "prod", "AWS_REGION": "eu-west-1"}
    shared = {**environment, "MAILS_A_SECOND": "14", "MAIL_SENDERS": "2"}
    assert Settings.read(shared).mails_a_second == 7
    assert Settings.read(environment).mails_a_second == 0


# --- SES ----------------------------------------------------------------------------------------

SETTINGS = Settings.read({"STAGE": "prod", "AWS_REGION": "eu-west-1"})._replace(
    mail_from="credits@example.com",
    product=Product(name="Café, Müller & Co", support="help@example.com"),
    mail_configuration_set="credits-prod",
)
MAIL = Mail(MailKind.MANUAL, "50 credits", "Text", "<p>HTML</p>", LINKS.link("1", None))


class Wire:
    """What goes over the wire to SES, and what comes back."""

    def __init__(self, status: int = 200, code: str = "") -> None:
        self.status = status
        self.code = code
        self.requests: list[AWSPreparedRequest] = []

    def __call__(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        self.requests.append(request)
        said = {"MessageId": "m1"} if self.status == 200 else {"message": "ada@example.com: no"}
        raw = _Raw(json.dumps(said).encode())
        headers: Any = {"x-amzn-ErrorType": self.code}
        return AWSResponse(request.url, self.status, headers, raw)


class _Raw:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._content


def mailer(wire: Wire) -> Mailer:
    """With the client that it makes itself: how often that asks is the point."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        made = Mailer(SETTINGS)
    made._client.meta.events.register("before-send.sesv2.SendEmail", wire)
    return made


def test_a_connection_that_was_idle_is_dropped_and_one_that_was_used_just_now_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ses = Mock(**{"send_email.return_value": {"MessageId": "m1"}})
    made = Mailer(SETTINGS, client=ses)
    for now, closed in ((1_000.0, 0), (1_005.0, 0), (1_005.1, 1)):
        monkeypatch.setattr("time.monotonic", lambda now=now: now)
        if now == 1_000:
            made.send("1", "ada@example.com", MAIL)
        made.drop_old_connections()
        assert ses.close.call_count == closed


def test_an_email_waits_for_its_turn_at_the_rate_of_the_settings_before_it_is_sent() -> None:
    happened: list[str] = []

    def send_email(**_: object) -> dict[str, str]:
        happened.append("sent")
        return {"MessageId": "m1"}

    ses = SimpleNamespace(send_email=send_email)
    pace = Pace(1, clock=lambda: 0.0, sleep=lambda seconds: happened.append(f"{seconds} s"))
    made = Mailer(SETTINGS, client=ses, pace=pace)
    assert [made.send("1", "ada@example.com", MAIL) for _ in range(2)] == ["m1", "m1"]
    assert happened == ["sent", "1.0 s", "sent"]
    assert Mailer(SETTINGS._replace(mails_a_second=4), client=ses)._pace._interval == 0.25
    assert Mailer(SETTINGS, client=ses)._pace._interval == 0
    config = mailer(Wire())._client.meta.config
    assert (config.read_timeout, config.retries["total_max_attempts"]) == (10, 1)


def test_what_is_asked_of_ses_is_complete() -> None:
    wire = Wire()
    assert mailer(wire).send("user|1", "ada@example.com", MAIL) == "m1"
    (request,) = wire.requests
    body: Any = request.body
    asked = json.loads(body)
    # RFC 2047: SES takes ASCII, and encoded words for anything else.
    assert asked["FromEmailAddress"].isascii()
    name, address = parseaddr(asked["FromEmailAddress"])
    assert str(make_header(decode_header(name))) == "Café, Müller & Co"
    assert address == "credits@example.com"
    assert asked["ReplyToAddresses"] == ["help@example.com"]
    assert asked["Destination"] == {"ToAddresses": ["ada@example.com"]}
    assert asked["ConfigurationSetName"] == "credits-prod"
    tags = {tag["Name"]: tag["Value"] for tag in asked["EmailTags"]}
    assert (user_of_tag(tags["user"]), tags["kind"]) == ("user|1", "manual")
    # Bounces of emails that were sent before a release name their users so.
    assert tags == {"user": "757365727c31", "kind": "manual"}
    assert user_of_tag("757365727c31") == "user|1"
    content = asked["Content"]["Simple"]
    assert content["Subject"] == {"Data": "50 credits", "Charset": "UTF-8"}
    assert content["Body"] == {
        "Text": {"Data": "Text", "Charset": "UTF-8"},
        "Html": {"Data": "<p>HTML</p>", "Charset": "UTF-8"},
    }
    headers = {header["Name"]: header["Value"] for header in content["Headers"]}
    assert headers["List-Unsubscribe"] == f"<{MAIL.unsubscribe_url}>"
    assert headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert headers.get("Auto-Submitted") == "auto-generated", "holiday replies come back"
    # A bounce names the operation, and nobody can reply to a web page.
    web = SETTINGS._replace(product=Product(support="https://example.com/help"))
    ses = Mock(**{"send_email.return_value": {"MessageId": "m2"}})
    with correlated("tick-1"):
        assert Mailer(web, client=ses).send("1", "ada@example.com", MAIL) == "m2"
    asked = ses.send_email.call_args.kwargs
    assert asked["ReplyToAddresses"] == []
    assert {"Name": "correlation", "Value": "tick-1"} in asked["EmailTags"]
    with pytest.raises(ValueError, match="no user id"):
        user_of_tag(b"a b".hex())
    with pytest.raises(ValueError, match="can't decode"):
        user_of_tag("757365727cff31")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, "TooManyRequestsException", MailPostponed),
        (400, "LimitExceededException", MailPostponed),
        (400, "SendingPausedException", MailPostponed),
        (400, "AccountSuspendedException", MailPostponed),
        (400, "MailFromDomainNotVerifiedException", MailPostponed),
        (400, "Throttling", MailPostponed),
        (400, "TooManyRequestsException", MailPostponed),
        (429, "Unheard", MailPostponed),
        (503, "ServiceUnavailable", MailPostponed),
        (400, "MessageRejected", MailRefused),
        (400, "BadRequestException", MailRefused),
        (403, "AccessDeniedException", MailRefused),
        (404, "NotFoundException", MailRefused),
        (500, "InternalFailure", MailInDoubt),
        (504, "GatewayTimeout", MailInDoubt),
    ],
)
def test_what_ses_answers_is_told_apart_asked_once_and_never_quoted(
    status: int, code: str, expected: type[Exception]
) -> None:
    wire = Wire(status, code)
    with pytest.raises(expected) as raised:
        mailer(wire).send("1", "ada@example.com", MAIL)
    assert type(raised.value) is expected
    assert len(wire.requests) == 1
    assert str(raised.value) == f"SES answered {status} {code}"
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        # There was no connection yet: the email was certainly not sent.
        (exceptions.ConnectTimeoutError(endpoint_url="https://ses"), MailPostponed),
        (exceptions.CredentialRetrievalError(provider="role", error_msg="no"), MailPostponed),
        (exceptions.EndpointConnectionError(endpoint_url="https://ses"), MailPostponed),
        (exceptions.NoCredentialsError(), MailPostponed),
        (exceptions.ProxyConnectionError(proxy_url="https://proxy"), MailPostponed),
        (exceptions.SSLError(endpoint_url="https://ses", error=OSError("no")), MailPostponed),
        # There was one, and nobody knows what went over it.
        (exceptions.ReadTimeoutError(endpoint_url="https://ses"), MailInDoubt),
        (exceptions.ConnectionClosedError(endpoint_url="https://ses"), MailInDoubt),
        (exceptions.ResponseStreamingError(error="cut off"), MailInDoubt),
        (exceptions.ParamValidationError(report="ada@example.com"), MailRefused),
    ],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__,
)
def test_a_fault_on_the_way_to_ses_postpones_an_email_only_where_none_can_have_been_sent(
    error: Exception, expected: type[Exception]
) -> None:
    def send_email(**_: Any) -> None:
        raise error

    ses = SimpleNamespace(send_email=send_email)
    with pytest.raises(expected) as raised:
        Mailer(SETTINGS, client=ses).send("1", "ada@example.com", MAIL)
    assert type(raised.value) is expected
    # Of the words of others, which can quote an address, nothing is left.
    assert str(error) not in str(raised.value)
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None


# --- Facts --------------------------------------------------------------------------------------

JANUARY = datetime(2026, 1, 10, 12, tzinfo=UTC)
GOODWILL = Request("manual#ada#1", "ada", "Goodwill")


def granted(
    before: LedgerEntry | None, amount: int, zone: str, days: int | None, hours: int = 0
) -> LedgerEntry:
    """A grant by hand, so many hours after the first one."""
    now = JANUARY + timedelta(hours=hours)
    return ledger.grant(
        Account("42", before), amount, GOODWILL, now, zone, Days(days) if days else None
    )


POSTED = datetime(2026, 1, 10, 20, tzinfo=UTC)
"""It is the 11th in Tokyo already."""

DUE = POSTED - timedelta(days=2)


def of_the_10th(kind: EntryType, amount: int, **more: Any) -> LedgerEntry:
    """An entry of which no two facts are equal: due earlier, among expired and held credits."""
    batches = (
        CreditBatch(2, 11, 8, DUE, POSTED),
        CreditBatch(3, 100, 90, DUE, None),
        CreditBatch(7, 60, 45, DUE, datetime(2026, 1, 14, 16, tzinfo=UTC)),
    )
    holds = (
        Hold(4, (Leg(3, 1),), POSTED),
        Hold(5, (Leg(3, 20),), POSTED + timedelta(milliseconds=1)),
    )
    entry = LedgerEntry(
        user_id="42",
        number=7,
        type=kind,
        amount=amount,
        balance=143,
        batches=batches,
        legs=(Leg(7 if amount > 0 else 3, amount),),
        allocated_through=Period(2025, 12),
        operation=f"{kind}#pi_1",
        description="Grüße",
        actor="ada",
        effective_at=DUE,
        posted_at=POSTED,
        expiry_timezone="Asia/Tokyo",
        holds=holds,
        metadata=(("why", "é"),),
    )
    return replace(entry, **more)


def test_the_facts_of_an_email_are_those_of_its_entry() -> None:
    shared = {"told_on": date(2026, 1, 10), "balance": 45 + 90 - 20}
    expiry, metadata = {"last_day": date(2026, 1, 15)}, {"why": "é"}
    first = of_the_10th(
        EntryType.ALLOCATION, 60, sign_up=True, left_out=40, balance_cap=600, metadata=()
    )
    assert facts.of_allocation(first) == shared | {
        "amount": 60,
        "period": Period(2025, 12),
        "is_first": True,
        "expiry": expiry,
        "left_out": 40,
        "balance_cap": 600,
    }
    later = replace(first, sign_up=False, number=1, left_out=0, balance_cap=None)
    told = facts.of_allocation(later)
    assert (told["is_first"], told["left_out"], told["balance_cap"]) == (False, 0, None)
    by_hand = shared | {"amount": 60, "reason": "Grüße", "metadata": metadata}
    entry = of_the_10th(EntryType.MANUAL, 60)
    assert facts.of_manual_change(entry) == by_hand | {"is_grant": True, "expiry": expiry}
    entry = replace(of_the_10th(EntryType.MANUAL, -60), number=8)
    assert facts.of_manual_change(entry) == by_hand | {"is_grant": False, "expiry": None}
    pack = of_the_10th(EntryType.PURCHASE, 60)
    bought = {"description": "Grüße", "payment_id": "pi_1"}
    assert facts.of_purchase(pack) == shared | bought | {
        "amount": 60,
        "metadata": metadata,
        "expiry": expiry,
    }
    report = Refund(3, 70, 15)
    for amount, is_given_back in ((-30, False), (30, True)):
        refund = of_the_10th(EntryType.REFUND, amount, refund=report)
        assert facts.of_refund(refund) == shared | {
            "amount": 30,
            "is_given_back": is_given_back,
            "reason": "Grüße",
            "payment_id": "pi_1",
        }
    usage = of_the_10th(EntryType.USAGE, -7)
    next_week = POSTED + timedelta(days=7)
    assert facts.of_low_balance(usage, ADA, CATALOGUE, next_week) == shared | {
        "metadata": metadata,
        "next": {"amount": 500, "on": date(2026, 1, 1), "is_capped": False},
        "pace": None,
    }


def test_of_an_erased_payment_there_is_no_row() -> None:
    for kind, told in (
        (MailKind.PURCHASE, facts.of_purchase(without_texts(of_the_10th(EntryType.PURCHASE, 60)))),
        (MailKind.REFUND, facts.of_refund(without_texts(of_the_10th(EntryType.REFUND, -60)))),
    ):
        assert told["payment_id"] == ""
        assert "Payment" not in render(kind, told, FRAME).text.replace("Your payment", "")


def test_a_grant_that_can_expire_in_no_zone_is_reported() -> None:
    with pytest.raises(LedgerCorrupt, match=r"42.*7.*it granted no credits that can expire"):
        facts.of_purchase(of_the_10th(EntryType.PURCHASE, 60, expiry_timezone=None))


def test_what_comes_next_comes_after_the_month_that_was_allocated() -> None:
    month = ledger.allocate(Account("42"), Period(2026, 2), 500, "UTC", None, JANUARY)
    usage = ledger.use(Account("42", month), 490, GOODWILL, JANUARY)
    told = facts.of_low_balance(usage, ADA, CATALOGUE, JANUARY)
    assert told["next"]["on"] == date(2026, 3, 1)
    # Told much later, it names what is still made up for then.
    told = facts.of_low_balance(usage, ADA, CATALOGUE, JANUARY + timedelta(days=1_000))
    assert told["next"]["on"] == date(2027, 11, 1)


def test_what_comes_next_may_be_less_where_a_plan_is_capped() -> None:
    usage = low_on_the_25th(7)
    for cap, is_capped in ((900, True), (None, False)):
        plans = tuple(replace(plan, balance_cap=cap) for plan in CATALOGUE.plans)
        told = facts.of_low_balance(usage, NEWCOMER, PlanCatalogue(plans), JANUARY)
        assert told["next"] == {"amount": 500, "on": date(2026, 2, 1), "is_capped": is_capped}


def test_what_expired_is_told_batch_by_batch_in_the_local_dates_of_each() -> None:
    """The user has moved: for each batch the zone counts in which it was granted."""
    tokyo = granted(None, 30, "Asia/Tokyo", 10, hours=6)  # 3 in the morning of the 11th there
    honolulu = granted(tokyo, 7, "Pacific/Honolulu", 20, hours=18)  # 8 in the evening of the 10th
    utc = granted(honolulu, 500, "UTC", None, hours=19)
    used = ledger.use(Account("42", utc), 4, GOODWILL, utc.posted_at)
    now = JANUARY + timedelta(days=60)
    expired = ledger.expire(Account("42", used), now)
    assert expired is not None
    holds = (Hold(9, (Leg(3, 60),), now + timedelta(days=1)), Hold(9, (Leg(3, 1),), now))
    expired = replace(expired, holds=holds)
    # The first was posted late: it counts since when it was granted.
    late = replace(tokyo, posted_at=tokyo.posted_at + timedelta(days=3))
    assert facts.of_expiration(expired, {1: late, 2: honolulu}) == {
        "amount": 33,
        "told_on": date(2026, 3, 11),
        "last_day": date(2026, 1, 30),
        "batches": [
            {"amount": 26, "granted_on": date(2026, 1, 11)},
            {"amount": 7, "granted_on": date(2026, 1, 10)},
        ],
        "balance": 440,
    }
    # They are told in the order in which they would have been spent.
    turned = replace(expired, legs=expired.legs[::-1])
    told = facts.of_expiration(turned, {1: late, 2: honolulu})["batches"]
    assert [batch["amount"] for batch in told] == [7, 26]
    # It was due when the last of them expired, wherever in the entry that one is.
    longest_first = granted(granted(None, 1, "UTC", 30), 2, "UTC", 5, hours=1)
    expired = ledger.expire(Account("42", longest_first), JANUARY + timedelta(days=60))
    assert expired is not None
    grants = {1: granted(None, 1, "UTC", 30), 2: longest_first}
    assert facts.of_expiration(expired, grants)["last_day"] == date(2026, 2, 9)


def test_an_email_can_say_what_its_request_brought_along() -> None:
    """The grant's own metadata, and that of the usage that made the balance low."""
    gift = replace(GOODWILL, metadata=(("campaign", "spring"),))
    entry = ledger.grant(Account("42", None), 60, gift, JANUARY, "UTC", None)
    assert facts.of_manual_change(entry)["metadata"] == {"campaign": "spring"}
    lead = Request("usage#shop#1", "shop", "Lead", metadata=(("lead", "7"), ("tier", "b")))
    usage = ledger.use(Account("42", entry), 55, lead, JANUARY)
    assert facts.of_low_balance(usage, ADA, CATALOGUE, JANUARY)["metadata"] == {
        "lead": "7",
        "tier": "b",
    }
    assert facts.of_manual_change(granted(None, 1, "UTC", None))["metadata"] == {}


def low_on_the_25th(left: int, days: int | None = None) -> LedgerEntry:
    """A usage on 25 January that leaves so many credits of a grant of the 10th."""
    grant = granted(None, 100, "Europe/Paris", days)
    use = Request("usage#shop#1", "shop", "Lead")
    return ledger.use(Account("42", grant), 100 - left, use, JANUARY + timedelta(days=15))


NEWCOMER = replace(ADA, eligible_from=JANUARY)
"""Their first credits of the plan come on 1 February; by hand they got some in January."""

OF_ONE_CREDIT = {"allocation_amount": 1}

MONTH = Spending(30, 30, 90, None)
"""Three credits a day."""


@pytest.mark.parametrize(
    ("left", "spent", "runs_out_on", "words", "german"),
    [
        (
            7,
            90,
            date(2026, 1, 27),
            "they run out on 27 January, before the next ones come.",
            "sind sie am 27. Januar aufgebraucht, bevor die nächsten kommen.",
        ),
        (
            1,
            30,
            date(2026, 1, 26),
            "it runs out on 26 January, before the next ones come.",
            "ist er am 26. Januar aufgebraucht, bevor die nächsten kommen.",
        ),
        # The last day before the 1st, when the plan's 500 come; and that very day.
        (
            6,
            30,
            date(2026, 1, 31),
            "they run out on 31 January, before the next ones come.",
            "sind sie am 31. Januar aufgebraucht, bevor die nächsten kommen.",
        ),
        (
            7,
            30,
            None,
            "they last until the next ones come.",
            "reichen sie, bis die nächsten kommen.",
        ),
        (1, 1, None, "it lasts until the next ones come.", "reicht er, bis die nächsten kommen."),
    ],
)
def test_a_low_balance_says_whether_it_lasts_until_more_comes(
    left: int, spent: int, runs_out_on: date | None, words: str, german: str
) -> None:
    usage = low_on_the_25th(left)
    spending = Spending(90, 30, spent, None)
    told = facts.of_low_balance(usage, NEWCOMER, CATALOGUE, usage.posted_at, spending)
    assert told["pace"] == {"days": 30, "runs_out_on": runs_out_on}
    assert told["next"]["on"] == date(2026, 2, 1)
    mail = render(MailKind.LOW_BALANCE, told, FRAME)
    assert f"\nAt the pace of the 30 days before that, {words}\n" in mail.text
    mail = render(MailKind.LOW_BALANCE, told, FRAME._replace(language=Language.GERMAN))
    assert f"\nBei einem Verbrauch wie in den 30 Tagen davor {german}\n" in mail.text


@pytest.mark.parametrize("language", Language)
def test_without_a_pace_a_low_balance_says_what_it_said_before(language: Language) -> None:
    usage = low_on_the_25th(7)
    frame = FRAME._replace(language=language)
    told = facts.of_low_balance(usage, NEWCOMER, CATALOGUE, usage.posted_at)
    without = render(MailKind.LOW_BALANCE, told, frame).text
    told = facts.of_low_balance(usage, NEWCOMER, CATALOGUE, usage.posted_at, MONTH)
    paced = render(MailKind.LOW_BALANCE, told, frame).text
    lines = paced.splitlines(keepends=True)
    added = [line for line in lines if line not in without]
    assert len(added) == 1
    assert paced.replace(f"{added[0]}\n", "") == without


@pytest.mark.parametrize(("changes", "left"), [({"plan": "starter"}, 40), (OF_ONE_CREDIT, 35)])
def test_what_lasts_until_more_comes_does_whatever_becomes_of_that(
    changes: dict[str, Any], left: int
) -> None:
    """The next 100 run out in three weeks at five a day, and one credit on the day it comes."""
    usage = low_on_the_25th(left)
    subscription = replace(NEWCOMER, **changes)
    five_a_day = Spending(30, 30, 150, None)
    told = facts.of_low_balance(usage, subscription, CATALOGUE, usage.posted_at, five_a_day)
    assert told["pace"] == {"days": 30, "runs_out_on": None}
    none = Spending(30, 30, 0, NoRate.NOTHING_SPENT)
    told = facts.of_low_balance(usage, subscription, CATALOGUE, usage.posted_at, none)
    assert told["pace"] is None


def test_where_nothing_comes_a_low_balance_says_no_more_than_the_day() -> None:
    usage = low_on_the_25th(7)
    paused = replace(NEWCOMER, status=SubscriptionStatus.PAUSED)
    told = facts.of_low_balance(usage, paused, CATALOGUE, usage.posted_at, MONTH)
    mail = render(MailKind.LOW_BALANCE, told, FRAME)
    assert "At the pace of the 30 days before that, they run out on 27 January.\n" in mail.text
    assert "next" not in mail.text
    # A year is as far as anybody can see.
    slow = Spending(30, 30, 1, None)
    assert (
        facts.of_low_balance(low_on_the_25th(49), paused, CATALOGUE, JANUARY, slow)["pace"] is None
    )


def test_what_expires_before_it_is_spent_does_not_last() -> None:
    usage = low_on_the_25th(40, days=18)
    told = facts.of_low_balance(usage, NEWCOMER, CATALOGUE, usage.posted_at, MONTH)
    assert told["pace"]["runs_out_on"] == date(2026, 1, 29)


def test_nothing_is_said_of_credits_that_are_gone_or_of_a_day_that_is_over() -> None:
    usage = low_on_the_25th(7)

    def pace(now: datetime, left: LedgerEntry = usage) -> Any:
        return facts.of_low_balance(left, NEWCOMER, CATALOGUE, now, MONTH)["pace"]

    assert pace(usage.posted_at, low_on_the_25th(0)) is None
    all_held = (Hold(9, (Leg(1, 7),), usage.posted_at + timedelta(days=1)),)
    assert pace(usage.posted_at, replace(usage, holds=all_held)) is None
    # Where they live, the 27th ends an hour earlier than in UTC.
    end = datetime(2026, 1, 27, 23, tzinfo=UTC)
    assert pace(end - timedelta(seconds=1)) == {"days": 30, "runs_out_on": date(2026, 1, 27)}
    assert pace(end) is None
    nowhere = replace(NEWCOMER, timezone="Mars/Base")
    told = facts.of_low_balance(usage, nowhere, CATALOGUE, end, MONTH)
    assert told["pace"] == {"days": 30, "runs_out_on": date(2026, 1, 27)}


def test_a_day_s_pace_is_called_one() -> None:
    usage = low_on_the_25th(7)
    told = facts.of_low_balance(
        usage, NEWCOMER, CATALOGUE, usage.posted_at, Spending(30, 1, 3, None)
    )
    assert (
        "At the pace of the day before that, they" in render(MailKind.LOW_BALANCE, told, FRAME).text
    )
    german = FRAME._replace(language=Language.GERMAN)
    text = render(MailKind.LOW_BALANCE, told, german).text
    assert "Bei einem Verbrauch wie am Tag davor sind sie am 27. Januar" in text


def test_credits_that_have_expired_are_no_balance_in_a_reminder() -> None:
    """The sweep has not booked them out yet."""
    first = granted(None, 11, "Europe/Paris", 5)
    second = granted(first, 40, "Europe/Paris", 10)
    third = granted(second, 100, "Europe/Paris", None)
    now = JANUARY + timedelta(days=7)
    assert facts.of_credits_expiring_soon(40, second, Account("42", third), now) == {
        "told_on": date(2026, 1, 17),
        "amount": 40,
        "expiry": {"last_day": date(2026, 1, 20)},
        "balance": 140,
    }
