"""Third-party programs and packages: installs them, and looks for their known weaknesses."""
