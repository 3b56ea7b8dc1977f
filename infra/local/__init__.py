"""Credits on this machine: the emulator, the token issuer, the clock, the console, the stack."""
