"""The address of DynamoDB: by region and partition, or from the environment."""

import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

_PARTITIONS = (
    (r"cn-.+", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    (r"eusc-.+", "amazonaws.eu", "api.amazonwebservices.eu"),
    (r"us-iso-.+", "c2s.ic.gov", "api.aws.ic.gov"),
    (r"us-isob-.+", "sc2s.sgov.gov", "api.aws.scloud"),
    (r"eu-isoe-.+", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    (r"us-isof-.+", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    (r"[a-z]{2}-.+", "amazonaws.com", "api.aws"),
)
"""The regions of each partition, their domain, and the domain that also has IPv6 (as in botocore's
data; a test compares them)."""


class Endpoint(NamedTuple):
    """An address. ``host`` is the HTTP header's: with a port only if it is not the default."""

    is_https: bool
    name: str
    port: int
    host: str

    @property
    def url(self) -> str:
        """The address, as messages name it."""
        return f"{'https' if self.is_https else 'http'}://{self.host}"


def endpoint_of(
    region: str, given: str | None = None, environment: Mapping[str, str] = os.environ
) -> Endpoint:
    """The endpoint of a region, unless one is ``given`` or set in the environment.

    Raises ValueError naming what is wrong.
    """
    is_fips = _is_set(environment, "AWS_USE_FIPS_ENDPOINT")
    is_dual = _is_set(environment, "AWS_USE_DUALSTACK_ENDPOINT")
    url = given
    if not url and not _is_set(environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        url = environment.get("AWS_ENDPOINT_URL_DYNAMODB") or environment.get("AWS_ENDPOINT_URL")
    if not url:
        return _read(f"https://{_host(region, is_fips=is_fips, is_dual=is_dual)}")
    if is_fips or is_dual:
        raise ValueError(
            "AWS_USE_FIPS_ENDPOINT and AWS_USE_DUALSTACK_ENDPOINT choose among AWS's endpoints: "
            "unset them, or the endpoint URL"
        )
    return _read(url)


def _host(region: str, *, is_fips: bool, is_dual: bool) -> str:
    for regions, domain, dual_domain in _PARTITIONS:
        if re.fullmatch(regions, region) and re.fullmatch(r"[a-z0-9-]+", region):
            # In us-gov the usual endpoints are FIPS-validated, except those with IPv6.
            has_own = is_fips and (is_dual or not region.startswith("us-gov-"))
            name = "dynamodb-fips" if has_own else "dynamodb"
            return f"{name}.{region}.{dual_domain if is_dual else domain}"
    raise ValueError(f"the region must be one of AWS, such as eu-west-1; is {region[:80]}")


def _read(url: str) -> Endpoint:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(
            f"an endpoint URL must be like https://host or http://host:port; is {url[:80]}"
        )
    is_https = parts.scheme == "https"
    usual = 443 if is_https else 80
    port = parts.port or usual
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Endpoint(is_https, parts.hostname, port, name if port == usual else f"{name}:{port}")


def _is_set(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() == "true"
