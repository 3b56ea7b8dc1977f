"""The form of a refusal in the answer of a Lambda that people invoke."""

from dataclasses import asdict
from typing import Any

from chalicelib.domain.errors import CreditsError, InvalidInput


def refusal(error: CreditsError) -> dict[str, Any]:
    """``{"success": false, "error": {"code", "detail", "errors": [{"field", "message"}]}}``."""
    described: dict[str, Any] = {"code": error.code, "detail": str(error)}
    if isinstance(error, InvalidInput):
        described["errors"] = [asdict(wrong) for wrong in error.errors]
    return {"success": False, "error": described}
