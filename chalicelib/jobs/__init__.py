"""Scheduled work: ticks, sweeps and workers, and the manual-allocate function."""
