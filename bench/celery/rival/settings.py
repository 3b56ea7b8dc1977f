"""Django's settings: only the ORM is used."""

import os

SECRET_KEY = "none"  # noqa: S105 - nothing is signed here
INSTALLED_APPS = ["rival"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "PORT": os.environ["RIVAL_POSTGRES_PORT"],
        "NAME": "postgres",
        "USER": "postgres",
        "CONN_MAX_AGE": None,  # a worker keeps its connection
    }
}
