"""SES as the sender sees it: takes emails, or refuses them as a test says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError


def ses_error(code: str, status: int, message: str = "No.") -> ClientError:
    """An answer of SES that is no good news."""
    answer: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(answer, "SendEmail")


THROTTLED = ("TooManyRequestsException", 429)


@dataclass(frozen=True)
class SentMail:
    """What SES took."""

    to: str
    subject: str
    text: str
    html: str
    headers: dict[str, str]
    tags: dict[str, str]

    @property
    def kind(self) -> str:
        return self.tags["kind"]


@dataclass
class Outbox:
    """``before`` may refuse an email by raising; ``after`` may lose the answer of a sent one."""

    sent: list[SentMail] = field(default_factory=list)
    calls: int = 0
    before: Callable[[str], None] = lambda _: None
    after: Callable[[str], None] = lambda _: None

    def send_email(self, **request: Any) -> dict[str, str]:
        self.calls += 1
        (address,) = request["Destination"]["ToAddresses"]
        self.before(address)
        content = request["Content"]["Simple"]
        self.sent.append(
            SentMail(
                to=address,
                subject=content["Subject"]["Data"],
                text=content["Body"]["Text"]["Data"],
                html=content["Body"]["Html"]["Data"],
                headers={header["Name"]: header["Value"] for header in content["Headers"]},
                tags={tag["Name"]: tag["Value"] for tag in request["EmailTags"]},
            )
        )
        self.after(address)
        return {"MessageId": f"message-{len(self.sent)}"}

    def close(self) -> None:
        """What the sender does after a pause."""

    def recipients(self) -> list[str]:
        return sorted(mail.to for mail in self.sent)

    def subjects(self) -> list[str]:
        return [mail.subject for mail in self.sent]
