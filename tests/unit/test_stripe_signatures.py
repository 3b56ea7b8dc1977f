"""Whether a request is Stripe's: what is signed, by which secret, and how long ago."""

import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from chalicelib.stripe.errors import NotSetUp, WrongSignature
from chalicelib.stripe.signatures import LONGEST_HEADER, TOLERANCE, check
from tests.stripe.payloads import signed

SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS10ZXN0cw"
BODY = b'{"id": "evt_1", "object": "event"}'
SECONDS = 1_768_478_400
NOW = datetime.fromtimestamp(SECONDS, UTC)


def signature(body: bytes = BODY, secret: str = SECRET, time: str = str(SECONDS)) -> str:
    """Computed beside the product, from what Stripe's documentation says."""
    return hmac.new(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()


RIGHT = signature()


def accepts(
    header: str | None, body: bytes = BODY, secret: str = SECRET, now: datetime = NOW
) -> None:
    check(body, header, [secret], now)


def refusal(
    header: str | None, body: bytes = BODY, secret: str = SECRET, now: datetime = NOW
) -> str:
    with pytest.raises(WrongSignature) as error:
        check(body, header, [secret], now)
    return str(error.value)


FORM = "the header Stripe-Signature must have one t, and a v1 or more"
WRONG = "no signature of the request is right"
TIME = "the request was signed too long ago, or too far ahead"


# --- What is signed -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "seconds", "body", "expected"),
    [
        # Made with openssl dgst -sha256 -hmac.
        (
            *(SECRET, SECONDS, b'{"id":"evt_1"}'),
            "a1cee382ea9cf1a384db44d701c029ee04d0e764bed9e64edbdcd95107fcd157",
        ),
        (
            *("whsec_0123456789abcdef0123", 0, b"x"),
            "ffcdceb47f2dce535ed38b740e66542296f9ba08fdca83ff955d3ad308f4f713",
        ),
    ],
)
def test_known_signatures_are_right(secret: str, seconds: int, body: bytes, expected: str) -> None:
    accepts(f"t={seconds},v1={expected}", body, secret, datetime.fromtimestamp(seconds, UTC))
    wrong = f"{(int(expected[0], 16) + 1) % 16:x}{expected[1:]}"
    header = f"t={seconds},v1={wrong}"
    assert refusal(header, body, secret, datetime.fromtimestamp(seconds, UTC)) == WRONG


@pytest.mark.parametrize("body", [b"", b"{}", "Größe 😀".encode(), b"\xff\x00", b"x" * 300_000])
def test_any_body_can_be_signed(body: bytes) -> None:
    accepts(signed(body, SECRET, NOW), body)
    assert refusal(signed(body, SECRET, NOW), body + b" ") == WRONG


def test_the_time_is_signed_with_the_body() -> None:
    assert refusal(f"t={SECONDS + 1},v1={RIGHT}") == WRONG
    assert refusal(f"t={SECONDS - 1},v1={RIGHT}") == WRONG


def test_a_secret_of_another_endpoint_signs_nothing() -> None:
    assert refusal(f"t={SECONDS},v1={signature(secret=SECRET + 'x')}") == WRONG


# --- The header ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        f"t={SECONDS},v1={RIGHT}",
        f"v1={RIGHT},t={SECONDS}",
        f" t={SECONDS} , v1={RIGHT} ",
        # One for each secret, while one replaces another.
        f"t={SECONDS},v1={'0' * 64},v1={RIGHT}",
        f"t={SECONDS},v1={RIGHT},v1={'0' * 64}",
        # Stripe sends a v0 in test mode, and may add others.
        f"t={SECONDS},v1={RIGHT},v0={'0' * 64}",
        f"t={SECONDS},v1={RIGHT},v2=,x,=,",
        f"t={SECONDS},v1=short,v1={RIGHT}",
        f"t={SECONDS},t=later,v1={RIGHT}",
    ],
)
def test_the_header_can_have_more_than_it_takes(header: str) -> None:
    accepts(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        ",",
        "=",
        RIGHT,
        f"t={SECONDS}",
        f"v1={RIGHT}",
        f"t={SECONDS};v1={RIGHT}",
        f"t=,v1={RIGHT}",
        f"t=-1,v1={RIGHT}",
        f"t={SECONDS}.0,v1={RIGHT}",
        f"t=12345678901,v1={RIGHT}",
        f"t=١,v1={RIGHT}",
        f"T={SECONDS},V1={RIGHT}",
        f"t={SECONDS},t={SECONDS},v1={RIGHT}",
        f"t={SECONDS},v0={RIGHT}",
        f"t={SECONDS},v1={RIGHT[:-1]}",
        f"t={SECONDS},v1={RIGHT}0",
        f"t={SECONDS},v1={RIGHT.upper()}",
        f"t={SECONDS},v1={'é' * 64}",
        f"t={SECONDS},v1={RIGHT},{'x' * LONGEST_HEADER}",
    ],
)
def test_a_header_of_another_form_is_refused(header: str | None) -> None:
    assert refusal(header) == FORM


def test_a_header_can_be_as_long_as_it_may() -> None:
    header = f"t={SECONDS},v1={RIGHT},"
    assert LONGEST_HEADER == 1_000
    accepts(header + "x" * (LONGEST_HEADER - len(header)))
    assert refusal(header + "x" * (LONGEST_HEADER - len(header) + 1)) == FORM


# --- When ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [1, -1])
def test_a_request_is_as_old_or_as_new_as_the_tolerance_and_no_more(way: int) -> None:
    header = f"t={SECONDS},v1={RIGHT}"
    accepts(header, now=NOW + way * TOLERANCE)
    assert refusal(header, now=NOW + way * (TOLERANCE + timedelta(microseconds=1))) == TIME
    assert timedelta(minutes=5) == TOLERANCE


@pytest.mark.parametrize("time", ["0", "9999999999"])
def test_a_time_far_from_ours_is_refused_though_it_is_signed(time: str) -> None:
    assert refusal(f"t={time},v1={signature(time=time)}") == TIME


def test_what_is_too_old_is_refused_before_any_secret_is_asked_for() -> None:
    asked: list[str] = []

    def secrets() -> Iterator[str]:
        asked.append(SECRET)
        yield SECRET

    for signed_by in (RIGHT, "0" * 64):
        with pytest.raises(WrongSignature, match=TIME):
            check(BODY, f"t=0,v1={signed_by}", secrets(), NOW)
    with pytest.raises(WrongSignature, match=FORM):
        check(BODY, None, secrets(), NOW)
    assert asked == []


# --- The secret ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret",
    [
        *("", " ", "put the signing secret of the endpoint here", "whsec_", "whsec_short"),
        *("sk_live_0123456789abcdef", "WHSEC_0123456789abcdef", "whsec_0123456789 abcdef"),
        "whsec_" + "x" * 201,
    ],
)
def test_without_a_secret_of_stripes_nothing_is_accepted(secret: str) -> None:
    header = f"t={SECONDS},v1={signature(secret=secret)}"
    for secrets in ([secret], [secret, secret], []):
        with pytest.raises(NotSetUp, match="the stage has no signing secret of Stripe's yet"):
            check(BODY, header, secrets, NOW)
    check(BODY, f"t={SECONDS},v1={RIGHT}", [secret, SECRET], NOW)


def test_any_of_several_secrets_signs_and_the_next_is_asked_for_only_when_it_must_be() -> None:
    asked: list[str] = []

    def secrets() -> Iterator[str]:
        for secret in (SECRET, SECRET + "2", SECRET + "3"):
            asked.append(secret)
            yield secret

    check(BODY, f"t={SECONDS},v1={RIGHT}", secrets(), NOW)
    assert asked == [SECRET]
    check(BODY, f"t={SECONDS},v1={signature(secret=SECRET + '2')}", secrets(), NOW)
    assert asked[1:] == [SECRET, SECRET + "2"]
    with pytest.raises(WrongSignature, match=WRONG):
        check(BODY, f"t={SECONDS},v1={'0' * 64}", secrets(), NOW)
    assert asked[3:] == [SECRET, SECRET + "2", SECRET + "3"]


@pytest.mark.parametrize("secret", [f"{SECRET}\n", f"  {SECRET}\t"])
def test_white_space_around_the_secret_is_none_of_it(secret: str) -> None:
    accepts(f"t={SECONDS},v1={RIGHT}", secret=secret)


@pytest.mark.parametrize("length", [16, 200])
def test_a_secret_is_as_short_or_as_long_as_it_may_be(length: int) -> None:
    secret = "whsec_" + "x" * length
    accepts(f"t={SECONDS},v1={signature(secret=secret)}", secret=secret)
