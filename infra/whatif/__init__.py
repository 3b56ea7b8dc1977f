"""What if the plans had been different? The domain decides the past again under other plans."""
