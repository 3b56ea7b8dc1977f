"""Repair by hand: one command a module; what they share is in `command`. See docs/repair.md."""
