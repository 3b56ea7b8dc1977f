"""How Credits is packaged, deployed and run on a developer's machine."""
