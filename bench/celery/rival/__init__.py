"""Monthly credits with Celery, Redis, the Django ORM and PostgreSQL."""
