"""The commands: `python -m infra NAME` runs one. What they do is in the other folders."""
