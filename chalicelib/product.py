"""The product in whose name emails come: only presentation, never content or identity of emails."""

from typing import NamedTuple
from urllib.parse import urlsplit


class Product(NamedTuple):
    """The product's name in emails and pages, and its links; empty texts are left out.

    ``url``: the address that the button of an email opens. ``logo_url``: a square picture.
    ``address``: the postal address, on one line. ``support``: an email address or a web address.
    """

    name: str = "Credits"
    url: str = ""
    logo_url: str = ""
    address: str = ""
    support: str = ""

    @property
    def support_link(self) -> str:
        """What a click on the support contact opens."""
        return self.support if self._is_web else f"mailto:{self.support}"

    @property
    def support_shown(self) -> str:
        """The support contact as people read it."""
        return self.support.removeprefix("https://").rstrip("/")

    @property
    def replies_to(self) -> str | None:
        """The email address that takes replies, if there is one."""
        return self.support if self.support and not self._is_web else None

    @property
    def logo_origin(self) -> str:
        """The origin of the logo, as a content security policy names it."""
        logo = urlsplit(self.logo_url)
        return f"{logo.scheme}://{logo.netloc}" if self.logo_url else ""

    @property
    def _is_web(self) -> bool:
        return self.support.startswith("https://")
