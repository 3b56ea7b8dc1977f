"""The product in whose name a stage's emails come, from the stage's parameters."""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.product import Product

PARAMETERS = {
    "name": "ProductName",
    "url": "ProductUrl",
    "logo_url": "ProductLogoUrl",
    "address": "ProductAddress",
    "support": "ProductSupport",
}
"""The parameter of each field of `Product`."""


def product_of(parameters: Mapping[str, str]) -> Product:
    """The product that emails of a stage name, as its functions read it."""
    given = {name: parameters.get(parameter, "") for name, parameter in PARAMETERS.items()}
    return Product(**{name: value for name, value in given.items() if value})


def missing(parameters: Mapping[str, str]) -> list[str]:
    """The missing parameters for emails. The default name is nobody's product."""
    nobody = Product()
    product = product_of(parameters)
    return [
        parameter
        for name, parameter in PARAMETERS.items()
        if getattr(product, name) == getattr(nobody, name)
    ]
