"""DynamoDB: the only place that knows a table, a key or a condition."""
