"""What credits mean: pure Python, no AWS, no clock, no environment, no randomness."""
