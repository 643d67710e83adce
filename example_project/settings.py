"""Settings from the environment: the defaults run the bank on a laptop.

A real server sets SECRET_KEY, DATABASE_URL=postgres://… (or mysql://…), perhaps
AUDIT_DATABASE_URL, CELERY_BROKER_URL=amqp://… (or redis://…) and
AUDIT_LOG_ENCRYPTION_KEYS=2026-11=<base64, 32 bytes>.
"""

from pathlib import Path
from typing import Any

import django
import environ

from example_project import servers

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

# sqlite:///path, postgres://…, mysql://… Here and below, a variable that is empty is as one that is
# not there: that is how composing tools pass on what nobody has set.
DATABASES: dict[str, dict[str, Any]] = {
    "default": servers.database(
        env.db_url_config(
            env.str("DATABASE_URL", default="") or f"sqlite:///{VAR_DIR / 'bank.sqlite3'}"
        )
    ),
}
# The ledger may have a database of its own, on any engine.
if has_own_ledger := bool(env.str("AUDIT_DATABASE_URL", default="")):
    DATABASES["audit"] = servers.database(env.db_url("AUDIT_DATABASE_URL"))
    DATABASE_ROUTERS = ["audit_log.router.AuditRouter"]
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
CELERY_BROKER_URL: str = env.str("CELERY_BROKER_URL", default="") or "memory://"
CELERY_TASK_DEFAULT_QUEUE: str = env.str("CELERY_QUEUE", default="bank")
# "quorum" for a RabbitMQ of several nodes; others have no such thing and ignore it.
CELERY_TASK_DEFAULT_QUEUE_TYPE: str = env.str("CELERY_QUEUE_TYPE", default="classic")
CELERY_TASK_CREATE_MISSING_QUEUE_TYPE = CELERY_TASK_DEFAULT_QUEUE_TYPE
CELERY_BROKER_TRANSPORT_OPTIONS = servers.transport_options(
    CELERY_BROKER_URL, CELERY_TASK_DEFAULT_QUEUE
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A request that publishes does not wait for a broker that is down.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0.2}
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # a relay at work holds no other task back
CELERY_TASK_IGNORE_RESULT = True
CELERY_TIMEZONE = TIME_ZONE
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULE_FILENAME = str(VAR_DIR / "celerybeat-schedule")

# Alerts are mailed to files in var/mails, unless MAIL_BACKEND says console, locmem or smtp.
MAIL_BACKEND: str = env.str("MAIL_BACKEND", default="filebased")
MAIL_OPTIONS: dict[str, Any] = {
    "filebased": {"file_path": str(VAR_DIR / "mails")},
    "smtp": {
        "host": env.str("MAIL_HOST", default="localhost"),
        "port": env.int("MAIL_PORT", default=25),
        "timeout": 10,
    },
}.get(MAIL_BACKEND, {})
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": f"django.core.mail.backends.{MAIL_BACKEND}.EmailBackend",
            "OPTIONS": MAIL_OPTIONS,
        }
    }
else:
    EMAIL_BACKEND = f"django.core.mail.backends.{MAIL_BACKEND}.EmailBackend"
    EMAIL_FILE_PATH = MAIL_OPTIONS.get("file_path")
    EMAIL_HOST = MAIL_OPTIONS.get("host", "localhost")
    EMAIL_PORT = MAIL_OPTIONS.get("port", 25)
    EMAIL_TIMEOUT = MAIL_OPTIONS.get("timeout")
DEFAULT_FROM_EMAIL = "bank@bank.example"

AUDIT_LOG: dict[str, Any] = {
    "SERVICE": "bank",
    # Newest first. Without them keys are made from SECRET_KEY, which `check --deploy` refuses.
    "ENCRYPTION_KEYS": env.dict("AUDIT_LOG_ENCRYPTION_KEYS", default={}),
    "ON_FAILURE": env.str("AUDIT_LOG_ON_FAILURE", default="allow"),
    "SPOOL_DIR": env.str("AUDIT_LOG_SPOOL_DIR", default="") or str(VAR_DIR / "spool"),
    "REQUESTS": env.str("AUDIT_LOG_REQUESTS", default="notable"),
    "REQUEST_BODY": env.str("AUDIT_LOG_REQUEST_BODY", default="redacted"),
    "ALERTS": [
        {
            "name": "mass_delete",
            "match": {"action": "delete", "actor_type": "admin"},
            "measure": "sum(affected)",
            "threshold": 100,
            "window": "5m",
            "group_by": "actor_id",
            "channels": ["email", "log", "signal"],
            "to": env.list("ALERT_MAIL_TO", default=["security@bank.example"]),
        }
    ],
    # A folder beside the database; a real server names a bucket, s3://bucket/prefix. boto3 finds
    # the credentials; an endpoint is for stores other than AWS.
    "ARCHIVE": env.str("AUDIT_LOG_ARCHIVE", default="") or (VAR_DIR / "archive").as_uri(),
}
if has_own_ledger:
    AUDIT_LOG["DATABASE"] = "audit"
if endpoint := env.str("AUDIT_LOG_ARCHIVE_ENDPOINT", default=""):
    AUDIT_LOG["ARCHIVE_OPTIONS"] = {"endpoint": endpoint, "path_style": True}
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
