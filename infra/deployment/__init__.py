"""Deploys to AWS: packages the app, generates parts of the template, and changes the stack."""
