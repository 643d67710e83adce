"""The fault tests' settings for processes of their own, with a mail server."""

from __future__ import annotations

import os

import django

from tests.faults import settings

globals().update({name: getattr(settings, name) for name in dir(settings) if name.isupper()})

_HOST = {
    "host": "127.0.0.1",
    "port": int(os.environ["ALERTS_SMTP_PORT"]),
    "timeout": 240,  # on a busy machine it may be slow
}
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
            "OPTIONS": _HOST,
        }
    }
else:
    EMAIL_HOST, EMAIL_PORT, EMAIL_TIMEOUT = _HOST["host"], _HOST["port"], _HOST["timeout"]
