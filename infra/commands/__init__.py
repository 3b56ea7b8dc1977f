"""The commands: `python -m infra NAME` runs one. The other folders do their work."""
