"""A mail backend that swallows its errors, as `fail_silently` makes Django's own."""

from __future__ import annotations

from typing import Any

from django.core.mail.backends.smtp import EmailBackend as _Backend


class EmailBackend(_Backend):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "fail_silently": True})
