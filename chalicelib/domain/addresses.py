"""Email addresses: which of them SES accepts, and when two are the same.

SES would refuse a bad address only when an email is already due. So we apply SES's rules: ASCII
before the @, with single dots between other characters; a domain in ASCII or punycode. Two rules
are narrower on purpose: no quotation marks before the @, and no domain without a dot.
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

# ß, ς and two invisible characters. Python's IDNA 2003 turns them into another domain than IDNA
# 2008, which registries use.
_AMBIGUOUS = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")


def parse_email(field: str, value: object) -> str:
    """An address that SES accepts. It may not exist: only sending an email shows that.

    A domain with letters beyond ASCII becomes punycode, as SES requires. No message shows the
    address, because messages are logged.
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
    """Whether emails to both reach the same mailbox, as SES compares addresses.

    Capitals do not count, not even before the @: if an address is on its suppression list, SES
    sends to no spelling of it. A domain written in letters equals the same domain in punycode.
    None, for no address, only equals None.
    """
    if one is None or other is None:
        return one is other
    return _compared(one) == _compared(other)


def digest_of(address: str) -> str:
    """A digest to recognise an address that is no longer stored."""
    return hashlib.sha256(_compared(address).encode()).hexdigest()


def _compared(address: str) -> str:
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{_ascii(domain) or domain}".lower()


def _ascii(domain: str) -> str | None:
    """The domain as ASCII; None if it has no such form."""
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return None


def _refused(field: str, cause: str) -> InvalidInput:
    return InvalidInput.of(field, f"{_EXAMPLE}; {cause}")
