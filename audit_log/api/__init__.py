"""The read API: Django REST framework views under `v1/`. Mount `audit_log.api.urls`."""

from importlib.util import find_spec

from django.core.exceptions import ImproperlyConfigured

_missing = [
    name for name in ("rest_framework", "django_filters", "drf_spectacular") if not find_spec(name)
]
if _missing:
    raise ImproperlyConfigured(
        f"audit_log.api needs {', '.join(_missing)}, which is not installed: "
        "pip install 'django-audit-ledger[api]'."
    )
