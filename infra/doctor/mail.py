"""Checks that emails will arrive: the account's status with SES, the identity, its DNS."""

from __future__ import annotations

from collections.abc import Iterator

from infra.deployment import product as products
from infra.doctor import mail_dns, template
from infra.doctor.finding import Finding, bad, fine, warning
from infra.doctor.site import Json, Site, found

SETTING_UP = "docs/mail.md#setting-it-up"


def account(site: Site) -> Iterator[Finding]:
    """Whether SES sends for this account, to whom, and how fast."""
    rate = float(template.parameter(site, "MailsASecond"))
    yield from judge_account(site, site.ask("sesv2").get_account(), rate)


def judge_account(site: Site, account: Json, rate: float) -> Iterator[Finding]:
    """``account``: SES's description of it. ``rate``: how many emails a second the stack sends."""
    standing = account.get("EnforcementStatus", "HEALTHY")
    quota = account["SendQuota"]
    if not account.get("SendingEnabled", True) or standing == "SHUTDOWN":
        yield bad(
            "mail account",
            "SES has paused sending for this account",
            "See why in the SES console, Account dashboard; docs/operating.md#mails-failed",
        )
    elif standing != "HEALTHY":
        yield warning(
            "mail account",
            f"SES has this account under review ({standing.lower()})",
            "See why in the SES console, Account dashboard; docs/operating.md#mail-bounces",
        )
    if not account["ProductionAccessEnabled"]:
        yield site.needed(
            "mail account",
            "SES keeps this account in its sandbox: only verified addresses get emails",
            "aws sesv2 put-account-details --production-access-enabled --mail-type TRANSACTIONAL "
            f"--website-url https://... --region {site.region}",
        )
    else:
        a_second, a_day = quota["MaxSendRate"], quota["Max24HourSend"]
        # SES writes -1 for no limit.
        daily = f"{a_day:,.0f}" if a_day >= 0 else "any number of"
        yield fine("mail account", f"SES takes {a_second:g} emails a second and {daily} a day")
    if quota["MaxSendRate"] < rate:
        yield warning(
            "mail rate",
            f"the stack sends {rate:g} emails a second, and SES takes {quota['MaxSendRate']:g}",
            f"Set MailsASecond = {quota['MaxSendRate']:g} under [{site.stage}] in "
            "infra/parameters.toml, or ask SES for a higher rate",
        )


def product(site: Site) -> Iterator[Finding]:
    """Whether emails name their product."""
    missing = products.missing(site.parameters)
    if missing:
        yield site.needed(
            "mail product",
            f"emails do not say whose they are: {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set",
            f"Set them under [{site.stage}] in infra/parameters.toml; docs/mail.md#in-your-name",
            # An email sent in nobody's name cannot be recalled.
            stops=True,
        )
    else:
        name = products.product_of(site.parameters).name
        yield fine("mail product", f"emails come in the name of {name}")


# --- The identity ---------------------------------------------------------------------------------


def identity(site: Site) -> Iterator[Finding]:
    """Whether SES, and the receivers, accept emails from the stage's domain."""
    domain = template.parameter(site, "MailDomain")
    client = site.ask("sesv2")
    known = found(lambda: client.get_email_identity(EmailIdentity=domain))
    yield judge_identity(site, domain, known)
    if known is not None:
        yield from mail_dns.look(site, mail_dns.wanted(site, domain, known))


def judge_identity(site: Site, domain: str, known: Json | None) -> Finding:
    """``known``: SES's description of the domain; None if it is not an identity."""
    if known is None:
        return fine("mail identity", f"the deployment makes {domain}; DNS entries come after it")
    dkim = known.get("DkimAttributes", {})
    status = dkim.get("Status", "NOT_STARTED")
    if not known.get("VerifiedForSendingStatus"):
        return site.needed(
            "mail identity",
            f"SES has not found the DNS entries of {domain} (DKIM: {status}): it refuses emails",
            f"Add those that are named below; SES looks for them for 72 hours. {SETTING_UP}",
        )
    if status != "SUCCESS" or not dkim.get("SigningEnabled", True):
        return site.needed(
            "mail identity",
            f"{domain} is verified, and its emails are not signed (DKIM: {status})",
            f"aws sesv2 put-email-identity-dkim-attributes --email-identity {domain} "
            f"--signing-enabled --region {site.region}; {SETTING_UP}",
        )
    return fine("mail identity", f"{domain} is verified, and signed with DKIM")
