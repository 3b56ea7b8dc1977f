"""Credits on this machine: the emulator, the issuer of tokens, the clock, the console, the stack."""
