"""The fault tests' settings for processes of their own, with a mail server."""

from __future__ import annotations

import os

import django

from tests.faults import settings

globals().update({name: getattr(settings, name) for name in dir(settings) if name.isupper()})

_HOST = {"host": "127.0.0.1", "port": int(os.environ["ALERTS_SMTP_PORT"])}
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": _HOST}
    }
else:
    EMAIL_HOST, EMAIL_PORT = _HOST["host"], _HOST["port"]
