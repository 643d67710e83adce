"""A project whose own API is like nobody else's."""

from __future__ import annotations

from typing import Any

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.api.urls"
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.AllowAny"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.StaticHTMLRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FileUploadParser"],
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": "1/day"},
    "DEFAULT_FILTER_BACKENDS": ["rest_framework.filters.SearchFilter"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "PAGE_SIZE": 1,
    "EXCEPTION_HANDLER": "rest_framework.views.exception_handler",
    "DATETIME_FORMAT": "%d.%m.%Y",
    "DATE_FORMAT": "%d.%m.%Y",
    "NON_FIELD_ERRORS_KEY": "__all__",
    "UNICODE_JSON": False,
    "COMPACT_JSON": False,
    "COERCE_BIGINT_TO_STRING": True,
    "URL_FORMAT_OVERRIDE": "outcome",
    "UNAUTHENTICATED_USER": None,
}
