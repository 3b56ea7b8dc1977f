"""Turns an error during a check into a finding: no traceback, and the other checks go on."""

from __future__ import annotations

from dns.exception import DNSException

from chalicelib.api.issuer_keys import FETCH_FAULTS
from infra.doctor.finding import Finding, unknown
from infra.faults import FAULTS
from infra.session import AwsError, words

TROUBLE = (AwsError, *FAULTS, *FETCH_FAULTS, DNSException, AttributeError)
"""The errors of AWS, DNS or an issuer, and those of an answer in an unexpected format."""


def trouble(check: str, error: Exception) -> Finding:
    """The finding that says why a check could not be made."""
    if isinstance(error, (AwsError, *FAULTS)):
        return unknown(check, *said(error))
    return unknown(check, f"what was answered makes no sense ({type(error).__name__}: {error})")


def said(error: Exception) -> tuple[str, str]:
    """The message of an error, and the advice, which our own errors have on their further lines."""
    says, _, fix = words(error).partition("\n")
    return says, fix.replace("\n", "; ")
