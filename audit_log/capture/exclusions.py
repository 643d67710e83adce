"""`EXCLUDE_PATHS`: requests that are neither recorded nor counted."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from django.http import HttpRequest

from audit_log.capture.callables import resolve
from audit_log.conf import get_settings
from audit_log.recording import losses


def excluded_by_path(request: HttpRequest) -> bool:
    """Whether the path alone says so: exact, with wildcards, or by a regular expression."""
    patterns = get_settings().exclude_paths
    return bool(patterns) and any(_matches(pattern, request.path) for pattern in patterns)


def _matches(pattern: str | re.Pattern[str], path: str) -> bool:
    if isinstance(pattern, str):
        return fnmatchcase(path, pattern)
    return pattern.search(path) is not None  # as Django's IGNORABLE_404_URLS


def excluded_by_project(request: HttpRequest) -> bool:
    """Whether one of the project's callables says so.

    Asked when the response is there, since by then it is known who is logged in; reading that may
    query, so not in an event loop. One that fails excludes nothing: a record too many is better.
    """
    for asked in get_settings().exclude_requests:
        try:
            if resolve(asked)(request):
                return True
        except Exception:  # noqa: BLE001 - the project's callable
            losses.warn("exclude_failed", "A callable of AUDIT_LOG['EXCLUDE_PATHS'] failed.")
    return False
