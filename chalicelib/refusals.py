"""How a refusal reads in the answer of a Lambda that people invoke."""

from collections.abc import Iterable
from typing import Any

from chalicelib.domain.errors import CreditsError, FieldError, InvalidInput


def refusal(error: CreditsError) -> dict[str, Any]:
    """``{"success": false, "error": {"code", "detail", "errors": [{"field", "message"}]}}``."""
    described: dict[str, Any] = {"code": error.code, "detail": str(error)}
    if isinstance(error, InvalidInput):
        described["errors"] = field_errors(error.errors)
    return {"success": False, "error": described}


def field_errors(errors: Iterable[FieldError]) -> list[dict[str, str]]:
    """The wrong fields of a request, in the order they were found."""
    return [{"field": wrong.field, "message": wrong.message} for wrong in errors]
