# mypy: ignore-errors
"""A user model of its own: by email, without username and staff. Each request is a transaction."""

import surroundings

DATABASES = {"default": surroundings.database(ATOMIC_REQUESTS=True)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = surroundings.apps(
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "people",
)
MIDDLEWARE = surroundings.middleware(
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
)
if surroundings.AUDIT:
    AUDIT_LOG = surroundings.audit_log()
AUTH_USER_MODEL = "people.Member"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
ROOT_URLCONF = "config.urls"
ALLOWED_HOSTS = ["testserver"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SECRET_KEY = "the members' own"
