"""What stands in the way of looking: never a traceback, never the end of all other checks."""

from __future__ import annotations

from dns.exception import DNSException

from chalicelib.api.issuer_keys import FETCH_FAULTS
from chalicelib.store.errors import FAULTS
from infra.doctor.finding import Finding, unknown
from infra.session import AwsError, words

TROUBLE = (AwsError, *FAULTS, *FETCH_FAULTS, DNSException, AttributeError)
"""What AWS, DNS or an issuer can come to, or an answer that has another form than it should."""


def trouble(check: str, error: Exception) -> Finding:
    """Says why nobody knows."""
    if isinstance(error, (AwsError, *FAULTS)):
        return unknown(check, *said(error))
    return unknown(check, f"what was answered makes no sense ({type(error).__name__}: {error})")


def said(error: Exception) -> tuple[str, str]:
    """What an error says, and what to do about it: our words have that in the lines below."""
    says, _, fix = words(error).partition("\n")
    return says, fix.replace("\n", "; ")
