"""The fields of Stripe's objects by API version: `python -m tests.stripe.schema` writes them down.

The source is the `stripe` package on PyPI, whose classes Stripe generates from its OpenAPI
description: one release for each generation of the API. The command downloads the wheels by pip
into a temporary folder, reads their classes as text (nothing of them is imported or run) and writes
one file for each API version into schema/ beside this module: names and types, nothing else.

A type is a few words:

    str, int, bool, float, any    what it says
    decimal                       digits in a text
    = a|b                         one of these texts
    id                            the id of another object
    @Price.Recurring              an object of that class
    list T, page T, map T         a list, a list object with `data`, values of T by text
    null                          an object that Credits has no use for: always left empty here
    other                         the same inside of a list or a page: nothing of it is ever listed

A `?` at the end means that the field may be null or missing.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

RELEASES = ("11.6.1", "12.5.2", "14.4.2", "15.6.2", "16.1.0")
FILES = Path(__file__).with_name("schema")

# The objects that are described, and where a release keeps them.
OBJECTS = {
    "BalanceTransaction": "_balance_transaction",
    "Charge": "_charge",
    "Customer": "_customer",
    "Dispute": "_dispute",
    "Event": "_event",
    "Invoice": "_invoice",
    "InvoiceLineItem": "_invoice_line_item",
    "InvoicePayment": "_invoice_payment",
    "PaymentIntent": "_payment_intent",
    "Plan": "_plan",
    "Price": "_price",
    "Refund": "_refund",
    "Session": "checkout/_session",
    "Subscription": "_subscription",
    "SubscriptionItem": "_subscription_item",
}
# Of the nested objects that may be null, those that say something.
KEPT = {
    "BalanceTransaction.FeeDetail",
    "Charge.FraudDetails",
    "Charge.Outcome",
    "Event.Request",
    "Invoice.Parent",
    "Invoice.Parent.SubscriptionDetails",
    "Invoice.SubscriptionDetails",
    "InvoiceLineItem.Parent",
    "InvoiceLineItem.Parent.InvoiceItemDetails",
    "InvoiceLineItem.Parent.SubscriptionItemDetails",
    "InvoiceLineItem.Pricing",
    "InvoiceLineItem.Pricing.PriceDetails",
    "Price.Recurring",
    "Session.CustomerDetails",
    "Session.TotalDetails",
    "Subscription.CancellationDetails",
    "Subscription.PauseCollection",
    "Subscription.StatusDetails",
    "Subscription.TrialSettings",
}
WORDS = {
    "Any": "any",
    "Decimal": "decimal",
    "bool": "bool",
    "float": "float",
    "int": "int",
    "str": "str",
}
CONTAINERS = {"Dict": "map", "List": "list", "ListObject": "page", "UntypedStripeObject": "map"}
LONGEST_CHOICE = 30  # of languages and countries there are too many to write down


class Release:
    """The classes of one release, by their dotted names."""

    def __init__(self, wheel: Path) -> None:
        self.classes: dict[str, ast.ClassDef] = {}
        with zipfile.ZipFile(wheel) as archive:
            self.api_version = _api_version(archive.read("stripe/_api_version.py").decode())
            present = set(archive.namelist())
            for name, module in OBJECTS.items():
                path = f"stripe/{module}.py"
                if path in present:
                    tree = ast.parse(archive.read(path))
                    self.classes.update(_classes(tree, "", only=name))

    def described(self) -> dict[str, dict[str, str]]:
        """Every object and what it is made of: the fields and their types."""
        found: dict[str, dict[str, str]] = {}
        wanted = [name for name in OBJECTS if name in self.classes]
        while wanted:
            name = wanted.pop()
            if name in found:
                continue
            found[name] = self._fields(name)
            for kind in found[name].values():
                wanted += re.findall(r"@([\w.]+)", kind)
        return dict(sorted(found.items()))

    def _fields(self, name: str) -> dict[str, str]:
        fields = {}
        for node in self.classes[name].body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            if "ClassVar" in ast.unparse(node.annotation):
                continue
            every_choice = (name, node.target.id) == ("Event", "type")
            kind = self._kind(node.annotation, name, every_choice=every_choice)
            fields[node.target.id] = self._without_what_is_optional(kind)
        return dict(sorted(fields.items()))

    def _without_what_is_optional(self, kind: str) -> str:
        nested = re.search(r"@([\w.]+)", kind)
        if nested is None or nested[1] in OBJECTS or nested[1] in KEPT:
            return "null" if kind == "other?" else kind
        if kind.startswith("@"):
            return "null" if kind.endswith("?") else kind
        return kind.replace(nested[0], "other")

    def _kind(  # noqa: PLR0911 - one for each form
        self, node: ast.expr, owner: str, *, every_choice: bool = False
    ) -> str:
        match node:
            case ast.Constant(value=str() as quoted):
                return f"@{quoted}" if quoted in self.classes else "other"
            case ast.Name(id=name) if name in WORDS:
                return WORDS[name]
            case ast.Name(id=name):
                return f"@{owner}.{name}"
            case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
                return self._kind(inner, owner).removesuffix("?") + "?"
            case ast.Subscript(value=ast.Name(id="ExpandableField")):
                return "id"
            case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
                return _choice(choices, every_choice=every_choice)
            case ast.Subscript(value=ast.Name(id="Union"), slice=ast.Tuple(elts=[first, *_])):
                kind = self._kind(first, owner)
                return kind if kind.startswith("=") or kind == "str" else "other"
            case ast.Subscript(value=ast.Name(id="Dict"), slice=ast.Tuple(elts=[_, value])):
                return f"map {self._kind(value, owner)}"
            case ast.Subscript(value=ast.Name(id=container), slice=inner):
                return f"{CONTAINERS[container]} {self._kind(inner, owner)}"
        raise ValueError(f"{owner} has a type that is not understood: {ast.unparse(node)}")


def _api_version(module: str) -> str:
    found = re.search(r'CURRENT = "([^"]+)"', module)
    if found is None:
        raise ValueError("stripe/_api_version.py names no API version")
    return found[1]


def _classes(
    tree: ast.Module | ast.ClassDef, within: str, *, only: str = ""
) -> Iterator[tuple[str, ast.ClassDef]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and only in ("", node.name):
            yield within + node.name, node
            yield from _classes(node, f"{within}{node.name}.")


def _choice(choices: ast.expr, *, every_choice: bool) -> str:
    values = [
        node.value
        for node in (choices.elts if isinstance(choices, ast.Tuple) else [choices])
        if isinstance(node, ast.Constant)
    ]
    if values == [True]:
        return "bool"
    if len(values) > LONGEST_CHOICE and not every_choice:
        return "str"
    return "= " + "|".join(sorted(str(value) for value in values))


def downloaded(release: str, folder: Path) -> Path:
    """The wheel of a release, downloaded by pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), f"stripe=={release}"]
    subprocess.run(command, check=True)
    return next(folder.glob(f"stripe-{release}-*.whl"))


def main() -> None:
    """Write the schema of every release."""
    FILES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for number in RELEASES:
            release = Release(downloaded(number, Path(folder)))
            document = {
                "api_version": release.api_version,
                "classes": release.described(),
                "release": number,
            }
            path = FILES / f"{release.api_version}.json"
            path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
            sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
