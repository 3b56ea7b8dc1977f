"""Looks for problems of a stage: before a deployment, and in a running stack.

A check is a pure function that judges facts, and a few lines that ask for the facts. Checks only
read. `make doctor` shows everything; `make deploy` makes the checks that matter to it before it
asks.
"""
