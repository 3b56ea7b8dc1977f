"""What if the plans had been others? The past, decided again by the domain under other plans."""
