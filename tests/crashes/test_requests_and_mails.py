"""A failure at any call to AWS: the end is that of a run without failures."""

from tests.crashes.group import check_singles, workflows_of


@workflows_of("requests", "mails", "stripe", "events")
def test_whatever_call_fails_and_however_the_end_is_that_of_the_clean_run(name: str) -> None:
    check_singles(name)
