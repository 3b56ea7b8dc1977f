"""The messages in the queues: small JSON texts, checked strictly when they arrive.

Each carries the correlation id of its operation. A message can wait for 14 days, and as long again
in a dead-letter queue, so older messages without such an id can be read, too. Each function loads
only the messages of its own queue.
"""
