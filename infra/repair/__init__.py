"""The commands for repairs, one in each module; `command` is shared. See docs/repair.md."""
