"""Where the README's figures come from: each module is a command anyone can run."""
