"""Email addresses: which SES would send to, and when two are the same.

What SES's parser refuses, it refuses when a mail is already due. So the rules here are SES's: ASCII
before the @, with single dots between other characters; a domain in ASCII, or in punycode. Two are
narrower on purpose: nothing in quotation marks before the @, and no domain without a dot.
"""

import hashlib
import re

from .errors import InvalidInput

MAXIMUM_ADDRESS = 254
"""The longest address that fits into SMTP's envelope (RFC 5321: a path of 256, with < and >)."""

_EXAMPLE = "must be an email address such as ada@example.com"
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")

# ß, ς and two that are not seen: IDNA 2003, which Python has, makes another domain of them than
# IDNA 2008, which registries use.
_AMBIGUOUS = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")


def parse_email(field: str, value: object) -> str:
    """An address that SES takes; whether it exists is for the mail to find out.

    A domain with letters beyond ASCII becomes punycode, which is what SES wants. No message shows
    the address, since messages are logged.
    """
    if not isinstance(value, str) or value.count("@") != 1:
        raise InvalidInput.of(field, _EXAMPLE)
    local, _, domain = value.partition("@")
    if len(value) > MAXIMUM_ADDRESS:
        raise _refused(field, f"it has more than {MAXIMUM_ADDRESS} characters")
    if not local.isascii():
        raise _refused(field, "SES sends to ASCII letters alone before the @")
    if ".." in local or local.startswith(".") or local.endswith("."):
        raise _refused(field, "before the @, a dot cannot be first, last or follow another")
    if not _LOCAL.fullmatch(local):
        raise _refused(field, "1 to 64 letters, digits and !#$%&'*+/=?^_`{|}~.- stand before the @")
    if _AMBIGUOUS & set(domain):
        raise _refused(
            field, "this domain has two spellings in ASCII: give the one that begins xn--"
        )
    punycode = _ascii(domain)
    if punycode is None or not _DOMAIN.fullmatch(punycode):
        raise _refused(
            field, "a domain stands behind the @: names of letters, digits and -, with dots"
        )
    address = f"{local}@{punycode}"
    if len(address) > MAXIMUM_ADDRESS:
        raise _refused(field, f"it has more than {MAXIMUM_ADDRESS} characters as punycode")
    return address


def same_address(one: str | None, other: str | None) -> bool:
    """Whether mails to both reach the same mailbox, as SES compares addresses.

    Capitals do not count, before the @ neither: SES sends to no spelling of an address that is on
    its suppression list. A domain is the same in letters and as punycode. No address is as
    another: None is the same as None alone.
    """
    if one is None or other is None:
        return one is other
    return _compared(one) == _compared(other)


def digest_of(address: str) -> str:
    """What tells whether an address is the same as one that is not kept any more."""
    return hashlib.sha256(_compared(address).encode()).hexdigest()


def _compared(address: str) -> str:
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{_ascii(domain) or domain}".lower()


def _ascii(domain: str) -> str | None:
    """The domain as ASCII, None where it cannot be written so."""
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return None


def _refused(field: str, cause: str) -> InvalidInput:
    return InvalidInput.of(field, f"{_EXAMPLE}; {cause}")
