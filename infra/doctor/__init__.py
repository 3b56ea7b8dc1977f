"""Looks for problems of a stage: before a deployment, and in a running stack.

A check is a pure function that judges facts, plus a few lines that read the facts. Checks only
read. `make doctor` shows everything; `make deploy` makes its relevant checks before it asks.
"""
