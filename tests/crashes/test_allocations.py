"""A failure at any call to AWS: the end is that of a run without failures."""

from collections import Counter

from tests.crashes.group import check_singles, workflows_of
from tests.crashes.runner import Course


@workflows_of("allocation")
def test_whatever_call_fails_and_however_the_end_is_that_of_the_clean_run(name: str) -> None:
    check_singles(name)


def test_the_calls_of_an_allocation_are_those_the_budget_allows() -> None:
    """Five users on pages of four, two to a message; nobody wants mails."""
    course = Course.of("allocation to users on several pages")
    assert Counter(seen.name.removesuffix(" credits-dev-ledger") for seen in course.clean.seen) == {
        "sqs.SendMessageBatch": 1 + 2 + 1,  # the tick's, one for each page, and the stream's
        "dynamodb.Query credits-dev-subscriptions": 2,  # the pages
        "dynamodb.Query": 5,  # each user's last entry
        "dynamodb.BatchExecuteStatement": 3,  # the entries, one request for each message
        "dynamodb.BatchGetItem": 3 + 2,  # the subscriptions; and what might be told by email
    }
