# mypy: ignore-errors
import os

import surroundings

DATABASES = {"default": surroundings.database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = surroundings.apps(
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "books",
)
MIDDLEWARE = surroundings.middleware(
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
)
if surroundings.AUDIT:
    AUDIT_LOG = surroundings.audit_log()
if os.environ.get("GUEST_MIGRATIONS") == "none":
    MIGRATION_MODULES = dict.fromkeys(
        ("admin", "auth", "contenttypes", "sessions", "books", "audit_log")
    )

ROOT_URLCONF = "config.urls"
STATIC_URL = "/static/"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
SECRET_KEY = "a library's own"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Django's manual advises it: flush makes their rows anew, under other keys.
TEST_NON_SERIALIZED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
USE_TZ = os.environ.get("GUEST_USE_TZ", "1") == "1"
LOGIN_URL = "/login/"

if surroundings.CELERY == "eager":
    CELERY_TASK_ALWAYS_EAGER = True
elif surroundings.CELERY != "none":
    CELERY_BROKER_URL = surroundings.CELERY
