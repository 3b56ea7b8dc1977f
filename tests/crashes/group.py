"""What the tests of the workflows share: a file for each group, so that they run side by side."""

import pytest

from tests.crashes.of_stripe import WORKFLOWS
from tests.crashes.runner import Course


def workflows_of(*groups: str) -> pytest.MarkDecorator:
    names = [name for name, workflow in WORKFLOWS.items() if workflow.group in groups]
    return pytest.mark.parametrize("name", names)


def check_singles(name: str) -> None:
    """A failure at each call: the end is that of the clean run."""
    course = Course.of(name)
    wrong = [found.told() for point in course.singles() if (found := course.check(point)[1])]
    assert not wrong, "\n\n".join(wrong[:5])
