"""Everything stored in AWS, in tables and buckets: nothing else knows a key or a condition."""
