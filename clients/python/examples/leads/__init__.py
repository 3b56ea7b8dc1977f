"""A Django app that sells sales leads for credits; docs/django.md explains it."""
