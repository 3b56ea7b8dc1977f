"""Credits on this machine: emulator, token issuer, clock, console, and the stack made of them."""
