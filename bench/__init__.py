"""The source of the README's figures: each module is a command that anyone can run."""
