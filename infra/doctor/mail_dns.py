"""Checks the DNS entries for email, as the world sees them: what is missing, and what to add."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import dns.exception

from infra.doctor.finding import Finding, fine, unknown, warning
from infra.doctor.site import Json, Site

HOSTED_ZONE = "dkim.amazonses.com"
"""The zone of SES's DKIM keys, unless SES names another; some regions have their own."""

SPF, DMARC = "v=spf1", "v=DMARC1"


@dataclass(frozen=True)
class Wanted:
    """A DNS entry that the email of a domain needs.

    ``also_at``: other names where it may be instead. ``is_right`` judges a value that differs from
    ours. ``is_needed``: without it SES accepts no emails. The other entries make more emails
    arrive.
    """

    name: str
    kind: str
    value: str
    is_right: Callable[[str], bool]
    also_at: Sequence[str] = ()
    is_needed: bool = False


def wanted(site: Site, domain: str, identity: Json) -> Iterator[Wanted]:
    """The entries that a domain needs, from SES's description of its identity."""
    dkim = identity.get("DkimAttributes", {})
    zone = dkim.get("SigningHostedZone") or HOSTED_ZONE
    for token in dkim.get("Tokens", ()):
        value = f"{token}.{zone}"
        name = f"{token}._domainkey.{domain}"
        yield Wanted(name, "CNAME", value, _same(value), is_needed=True)
    bounces = identity.get("MailFromAttributes", {}).get("MailFromDomain")
    if bounces:
        exchange = f"10 feedback-smtp.{site.region}.amazonses.com"
        yield Wanted(bounces, "MX", exchange, _same(exchange))
        yield Wanted(bounces, "TXT", f"{SPF} include:amazonses.com ~all", _is_spf)
    labels = domain.split(".")
    # A domain without a policy uses the policy of the domain above it.
    above = [f"_dmarc.{'.'.join(labels[up:])}" for up in range(1, len(labels) - 1)]
    policy = f"{DMARC}; p=quarantine; rua=mailto:you@{domain}"
    yield Wanted(f"_dmarc.{domain}", "TXT", policy, _is_dmarc, above)


def _same(value: str) -> Callable[[str], bool]:
    return lambda there: there.lower() == value.lower()


def _is_spf(there: str) -> bool:
    return there.startswith(SPF) and "include:amazonses.com" in there.split()


def _is_dmarc(there: str) -> bool:
    return there.startswith(DMARC)


def look(site: Site, entries: Iterable[Wanted]) -> Iterator[Finding]:
    """Checks each entry; stops when DNS does not answer."""
    right = 0
    for entry in entries:
        try:
            there = _values(site, entry)
        except dns.exception.DNSException as error:
            yield unknown(
                "mail DNS",
                f"{entry.name} could not be looked up: {error}",
                f"Is there a network? Ask by hand: dig {entry.name} {entry.kind}",
            )
            return
        problem = judge(site, entry, there)
        if problem:
            yield problem
        else:
            right += 1
    if right:
        yield fine("mail DNS", f"{right} entries are as they should be")


def _values(site: Site, entry: Wanted) -> list[str]:
    for name in (entry.name, *entry.also_at):
        if values := site.resolve(name, entry.kind):
            return values
    return []


def judge(site: Site, entry: Wanted, there: Sequence[str]) -> Finding | None:
    """What is wrong with the existing values of an entry; None if they are right."""
    policies = [value for value in there if value.startswith((SPF, DMARC))]
    # SES accepts no MAIL FROM domain with a second MX (SES Developer Guide, "Using a custom MAIL
    # FROM domain"). Texts of other kinds, such as a proof of ownership, may exist beside ours.
    is_alone = len(policies) <= 1 if entry.kind == "TXT" else len(there) == 1
    if is_alone and any(map(entry.is_right, there)):
        return None
    if len(policies) > 1:
        several = ", ".join(f'"{policy}"' for policy in policies)
        says = f"{entry.kind} of {entry.name} is {several}: with two, none counts"
        return warning("mail DNS", says, "Leave one")
    other = [value for value in there if entry.kind != "TXT"] + policies
    says = f"{entry.kind} of {entry.name} is {', '.join(other) or 'not there'}"
    fix = f"{'Change' if other else 'Add'} it: {entry.name} {entry.kind} {_shown(entry)}"
    return site.needed("mail DNS", says, fix) if entry.is_needed else warning("mail DNS", says, fix)


def _shown(entry: Wanted) -> str:
    return f'"{entry.value}"' if entry.kind == "TXT" else entry.value
