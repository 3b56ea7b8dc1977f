"""Objects of Stripe with every field that they have in an API version."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from tests.stripe.conformance import VERSIONS, Kind, classes

Json = dict[str, Any]

# What a field says that nobody gives: where the first choice of its type would be odd.
USUAL: Mapping[tuple[str, str], Any] = {
    ("BalanceTransaction", "balance_type"): "payments",
    ("Dispute.EvidenceDetails", "submission_method"): "not_submitted",
    ("Invoice.Issuer", "type"): "self",
    ("Plan", "active"): True,
    ("Price", "active"): True,
    ("Session", "locale"): "auto",
    ("Session", "success_url"): "https://shop.example/thanks",
    ("Session", "cancel_url"): "https://shop.example/prices",
    ("Subscription.InvoiceSettings.Issuer", "type"): "self",
}
# What is only there when somebody asked for it, and never in an event; or when it is deleted.
ABSENT = {
    ("Charge", "refunds"),
    ("Customer", "sources"),
    ("Customer", "subscriptions"),
    ("Customer", "tax_ids"),
    ("Event", "account"),
    ("Invoice", "confirmation_secret"),
    ("Invoice", "payments"),
    ("Plan", "tiers"),
    ("Price", "currency_options"),
    ("Price", "tiers"),
    ("Session", "line_items"),
}


def filled(version: str, name: str, /, **given: Any) -> Json:
    """An object with each of its fields: as given, or as it usually is."""
    fields = classes(version)[name]
    unknown = given.keys() - _known_to_some_version(name)
    if unknown:
        raise TypeError(f"{name} has no {', '.join(sorted(unknown))} in any version")
    usual, made_anew = _blank(version, name)
    filled = dict(usual)
    for field in made_anew:
        if field not in given:
            filled[field] = _made(version, name, field)
    for field, value in given.items():
        if field in fields:
            filled[field] = _given(version, fields[field], value)
    return filled


@cache
def _known_to_some_version(name: str) -> frozenset[str]:
    known = [classes(version).get(name, {}) for version in VERSIONS]
    return frozenset(field for fields in known for field in fields)


@cache
def _blank(version: str, name: str) -> tuple[Json, tuple[str, ...]]:
    """What an object usually says, and of which fields it has to be made anew for each."""
    usual: Json = {}
    made_anew = []
    for field, kind in classes(version)[name].items():
        if field == "deleted" or (name, field) in ABSENT:
            continue
        usual[field] = None
        if (name, field) in USUAL:
            usual[field] = USUAL[name, field]
        elif kind.optional:
            continue
        elif kind.word == "=":
            usual[field] = kind.of.split("|")[0]
        elif kind.word == "bool":
            usual[field] = field == "livemode"
        elif kind.word == "int":
            usual[field] = 0
        else:
            made_anew.append(field)
    return usual, tuple(made_anew)


def _given(version: str, kind: Kind, value: Any) -> Any:
    """Of a nested object that is given in part, the rest is filled in, too."""
    if kind.word == "object" and value is not None and "object" not in value:
        return filled(version, kind.of, **value)
    return value


def _made(version: str, name: str, field: str) -> Any:
    kind = classes(version)[name][field]
    match kind.word:
        case "list":
            return []
        case "map":
            return {}
        case "object":
            return filled(version, kind.of)
    raise TypeError(f"{name}.{field} of {version} has to be given")
