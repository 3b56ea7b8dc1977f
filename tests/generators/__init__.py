"""Programs that call the API with clients which popular generators make of the contract."""

from infra.local.stacks import LocalStack

DAY = {
    "registered": 201,
    "again": "version_conflict",
    "granted": 100,
    "captured": 31,
    "released": 19,
    "balance": 69,
    "refused": "insufficient_credits",
}
"""What each program says of its day: registered once, granted, held, captured, refused."""


def environment(stack: LocalStack) -> dict[str, str]:
    """Where a program finds the API, with a token of one who may do all this."""
    token = stack.token("generators", "credits:backend credits:billing credits:admin")
    return {"CREDITS_API_URL": stack.api_url, "CREDITS_TOKEN": token}
