# mypy: ignore-errors
"""Nothing of django.contrib: no users, sessions, admin or content types. But two databases."""

import surroundings

DATABASES = {"default": surroundings.database(), "other": surroundings.database("_other")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = surroundings.apps("things")
MIDDLEWARE = surroundings.middleware()
if surroundings.AUDIT:
    AUDIT_LOG = surroundings.audit_log()
ROOT_URLCONF = "config.urls"
ALLOWED_HOSTS = ["testserver"]
SECRET_KEY = "a bare project's own"
