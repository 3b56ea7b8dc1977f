"""What stands in the way of a stage: looked for before a deployment, and in a running stack.

A check is a pure judgement of facts, beside the few lines that ask for the facts. All of it only
reads. `make doctor` shows everything; `make deploy` looks at what matters to it before it asks.
"""
