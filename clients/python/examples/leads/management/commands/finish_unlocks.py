"""The reconciler: `manage.py finish_unlocks`, every few minutes."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from credits_client import CreditsError
from leads.models import Unlock
from leads.unlocking import finish

UNFINISHED = (Unlock.State.PENDING, Unlock.State.HELD)


class Command(BaseCommand):
    """Finishes rows unchanged for a minute; a request may still be working on younger ones."""

    help = "Finishes the unlocks that crashes and lost answers have left."

    def handle(self, **_: Any) -> None:
        """Prints the outcome of each. Fails if some are not finished; the next run will try."""
        before = timezone.now() - timedelta(minutes=1)
        left = Unlock.objects.filter(state__in=UNFINISHED, changed_at__lt=before)
        failed = 0
        for row in left.order_by("changed_at"):
            try:
                finish(row)
            except CreditsError as error:
                failed += 1
                self.stderr.write(f"{row}: {error}")
            else:
                self.stdout.write(f"{row}")
        if failed:
            raise CommandError(f"{failed} unlocks are as they were; the next run tries them again")
