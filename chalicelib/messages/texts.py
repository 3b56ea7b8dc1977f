"""The text of a message: small JSON."""

import json

from chalicelib.domain.errors import InvalidInput


def encode(values: dict[str, object]) -> str:
    """The text of a message with these values."""
    return json.dumps(values, separators=(",", ":"))


def decode(body: str) -> object:
    """The content of a message. Raises `InvalidInput` if the text is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput.of("body", f"must be JSON ({error})") from error
