"""Looks up DNS entries with the name servers of this machine."""

from __future__ import annotations

import dns.rdata
import dns.resolver
from dns.rdtypes.ANY.TXT import TXT

PATIENCE_SECONDS = 5.0
"""How long one lookup may take, with all name servers together."""


def resolve(name: str, kind: str) -> list[str]:
    """The values of a DNS entry; empty if there is no such entry.

    Raises `dns.exception.DNSException` when there is no answer, or the answer is an error.
    """
    resolver = dns.resolver.Resolver()
    try:
        answer = resolver.resolve(name, kind, lifetime=PATIENCE_SECONDS, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    return [_text(each) for each in answer]


def _text(data: dns.rdata.Rdata) -> str:
    if isinstance(data, TXT):
        # Long texts come in pieces.
        return b"".join(data.strings).decode(errors="replace")
    return data.to_text().rstrip(".")
