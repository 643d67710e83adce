"""Settings from the environment: the defaults run the bank on a laptop.

A real server sets SECRET_KEY, DATABASE_URL=postgres://…, CELERY_BROKER_URL=amqp://… and
AUDIT_LOG_ENCRYPTION_KEYS=2026-11=<base64, 32 bytes>.
"""

from pathlib import Path
from typing import Any

import environ

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.str("BANK_VAR_DIR", default=str(BASE_DIR / "var"))).resolve()
VAR_DIR.mkdir(parents=True, exist_ok=True)

SECRET_KEY: str = env.str("SECRET_KEY", default="django-insecure-for-the-demo-only")
DEBUG: bool = env.bool("DEBUG", default=False)
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1"])

INSTALLED_APPS = [
    "audit_log",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "example_project.bank",
]

MIDDLEWARE = [
    # Outermost: what the others refuse is a request too.
    "audit_log.middleware.AuditMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

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

DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db_url("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'bank.sqlite3'}"),
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # The site, the worker and the relay write at the same time: take the write lock at BEGIN,
    # and let readers go on meanwhile.
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        transaction_mode="IMMEDIATE", timeout=20, init_command="PRAGMA journal_mode=WAL"
    )
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "accounts"
LOGOUT_REDIRECT_URL = "login"

# HTTPS=true behind a server that speaks it.
SESSION_COOKIE_SECURE: bool = env.bool("HTTPS", default=False)
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["example_project.bank.permissions.BankPermissions"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 50,
}

# The memory of one process, which is what `make demo` needs. A site and workers that are processes
# of their own need a broker: redis://… or amqp://…
CELERY_BROKER_URL: str = env.str("CELERY_BROKER_URL", default="memory://")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TIMEZONE = TIME_ZONE
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celerybeat-schedule")

AUDIT_LOG: dict[str, Any] = {
    "SERVICE": "bank",
    # Newest first. Without them keys are made from SECRET_KEY, which `check --deploy` refuses.
    "ENCRYPTION_KEYS": env.dict("AUDIT_LOG_ENCRYPTION_KEYS", default={}),
    "ON_FAILURE": env.str("AUDIT_LOG_ON_FAILURE", default="allow"),
    "SPOOL_DIR": env.str("AUDIT_LOG_SPOOL_DIR", default=str(VAR_DIR / "spool")),
    "REQUESTS": env.str("AUDIT_LOG_REQUESTS", default="notable"),
    "REQUEST_BODY": env.str("AUDIT_LOG_REQUEST_BODY", default="redacted"),
}
for key in ("INDEX_KEY", "SIGNING_KEY"):
    if value := env.str(f"AUDIT_LOG_{key}", default=""):
        AUDIT_LOG[key] = value

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"},
    },
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "level": env.str("LOG_LEVEL", default="INFO"),
        },
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
