"""Which email addresses are accepted, and when two of them are the same one."""

import hashlib

import pytest

from chalicelib.domain.addresses import digest_of, parse_email, same_address
from chalicelib.domain.errors import InvalidInput

EXAMPLE = "must be an email address such as ada@example.com"
DOTS = "before the @, a dot cannot be first, last or follow another"
LOCAL = "1 to 64 letters, digits and !#$%&'*+/=?^_`{|}~.- stand before the @"
DOMAIN = "a domain stands behind the @: names of letters, digits and -, with dots"
ASCII = "SES sends to ASCII letters alone before the @"
TWO_SPELLINGS = "this domain has two spellings in ASCII: give the one that begins xn--"

LONGEST_DOMAIN = ".".join(["d" * 63, "d" * 63, "d" * 57, "com"])


def refusal(wrong: object) -> str:
    with pytest.raises(InvalidInput) as refused:
        parse_email("email", wrong)
    (error,) = refused.value.errors
    assert error.field == "email"
    return error.message


@pytest.mark.parametrize(
    "email",
    [
        "ada@example.com",
        "Ada@Example.COM",
        "a@b.c",
        "first.last+tag/1=2'x!#$%&*?^_`{|}~-@sub-1.example.co.uk",
        "-a-@1.example",
        "a" * 64 + "@example.com",
        "a" * 64 + "@" + LONGEST_DOMAIN,
        "ada@xn--exmple-cua.de",
    ],
)
def test_an_address_that_ses_takes_is_accepted_as_it_is(email: str) -> None:
    assert len(email) <= 254
    assert parse_email("email", email) == email


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ("taro..05@example.com", DOTS),
        (".taro@example.com", DOTS),
        ("taro.@example.com", DOTS),
        (".@example.com", DOTS),
        ("@example.com", LOCAL),
        ("a" * 65 + "@example.com", LOCAL),
        *[(f"a{character}a@example.com", LOCAL) for character in '\x00\x1f\x7f\t "(),:;<>[]\\'],
        ("ada\r\nBcc: eve@example.com", LOCAL),
        ("müller@example.com", ASCII),
        ("\u2716@example.com", ASCII),
        ("ada@", DOMAIN),
        ("ada@example", DOMAIN),
        ("ada@example.", DOMAIN),
        ("ada@example.com.", DOMAIN),
        ("ada@.com", DOMAIN),
        ("ada@example..com", DOMAIN),
        ("ada@-example.com", DOMAIN),
        ("ada@example-.com", DOMAIN),
        ("ada@exa_mple.com", DOMAIN),
        ("ada@[127.0.0.1]", DOMAIN),
        ("ada@example.com\n", DOMAIN),
        ("ada@example.com ", DOMAIN),
        ("ada@" + "d" * 64 + ".com", DOMAIN),
        ("ada@example." + "d" * 64, DOMAIN),
        ("ada@ä..de", DOMAIN),
        ("ada@ä.\ud800.de", DOMAIN),
        ("ada@" + "ä" * 64 + ".de", DOMAIN),
        ("ada@ä\uff20eve.de", DOMAIN),
        ("ada@straße.de", TWO_SPELLINGS),
        ("a" * 64 + "@d" + LONGEST_DOMAIN, "it has more than 254 characters"),
        ("a" * 64 + "@" + "ä." * 94 + "d", "it has more than 254 characters as punycode"),
    ],
)
def test_an_address_that_ses_refuses_is_refused_with_the_cause(wrong: str, cause: str) -> None:
    assert refusal(wrong) == f"{EXAMPLE}; {cause}"


@pytest.mark.parametrize(
    "wrong", ["", "ada", "@", "ada@@example.com", "ada@home@example.com", None, 5, True, ["a@b.c"]]
)
def test_what_is_no_address_is_refused_with_an_example(wrong: object) -> None:
    assert refusal(wrong).startswith(EXAMPLE)


def test_an_address_of_255_characters_is_refused() -> None:
    email = "a" * 64 + "@" + "d." * 93 + "com"
    assert len(email) == 254
    assert parse_email("email", email) == email
    assert refusal(email + "m") == f"{EXAMPLE}; it has more than 254 characters"


@pytest.mark.parametrize(
    ("email", "stored"),
    [
        ("mueller@exämple.de", "mueller@xn--exmple-cua.de"),
        ("ada@EXÄMPLE.de", "ada@xn--exmple-cua.de"),
        ("Ada@例え.jp", "Ada@xn--r8jz45g.jp"),
        ("ada@пример.рф", "ada@xn--e1afmkfd.xn--p1ai"),
    ],
)
def test_a_domain_beyond_ascii_becomes_punycode(email: str, stored: str) -> None:
    assert parse_email("email", email) == stored
    assert parse_email("email", stored) == stored


def test_what_is_kept_of_an_address_is_the_digest_of_how_it_is_compared() -> None:
    expected = hashlib.sha256(b"ada@xn--exmple-cua.de").hexdigest()
    assert digest_of("Ada@EXÄMPLE.de") == digest_of("ada@xn--exmple-cua.de") == expected


def test_no_refusal_shows_the_address() -> None:
    for wrong in ("secret..name@example.com", "name@secret", "secret", "sécret@example.com"):
        assert "secret" not in refusal(wrong)
        assert "sécret" not in refusal(wrong)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada@example.com", "ada@example.com"),
        ("ada@example.com", "ADA@Example.Com"),
        ("ada@exämple.de", "Ada@XN--EXMPLE-CUA.de"),
        ("taro..05@example.com", "Taro..05@example.com"),
        (None, None),
    ],
)
def test_the_same_address_is_written_in_several_ways(one: str | None, other: str | None) -> None:
    assert same_address(one, other)
    assert same_address(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada@example.com", "ada@example.org"),
        ("ada@example.com", "a.da@example.com"),
        ("ada@example.com", "ada+1@example.com"),
        ("ada@example.com", None),
        ("", None),
        ("ada@ä..de", "ada@ö..de"),
    ],
)
def test_another_address_is_another(one: str | None, other: str | None) -> None:
    assert not same_address(one, other)
    assert not same_address(other, one)
