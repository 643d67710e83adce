"""Errors as problem details (RFC 9457): type, title, status, detail, instance, code, errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

MEDIA_TYPE: Final = "application/problem+json"


class Gone(exceptions.APIException):
    """410: what comes next was purged, or is missing."""

    status_code = HTTPStatus.GONE
    default_code = "gone"


class Conflict(exceptions.APIException):
    """409: the client knows of more than there is."""

    status_code = HTTPStatus.CONFLICT
    default_code = "conflict"


class TooLarge(exceptions.APIException):
    """413: more than the project's DATA_UPLOAD_MAX_MEMORY_SIZE."""

    status_code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"
    default_detail = "The body is larger than this project takes."


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """What DRF calls for an error; None for those that are none of the client's.

    Unlike DRF's own it does not roll the request's transaction back: a refused attempt is on
    record, also with ATOMIC_REQUESTS.
    """
    if isinstance(error, Http404):
        error = exceptions.NotFound()
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    elif isinstance(error, RequestDataTooBig):
        error = TooLarge()
    if not isinstance(error, exceptions.APIException):
        return None
    request = context["request"]
    problem = Response(
        document(error, request.path), status=error.status_code, content_type=MEDIA_TYPE
    )
    if header := getattr(error, "auth_header", None):
        problem["WWW-Authenticate"] = header
    if wait := getattr(error, "wait", None):
        problem["Retry-After"] = str(int(wait) + 1)
    return problem


def document(error: exceptions.APIException, instance: str) -> dict[str, Any]:
    """The members of a problem. `errors` is {parameter: [what is wrong]}."""
    found: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(error.status_code).phrase,
        "status": int(error.status_code),
        "instance": instance,
    }
    if isinstance(error, exceptions.ValidationError):
        errors = _errors(error.detail)
        detail = "; ".join(f"{name}: {' '.join(texts)}" for name, texts in errors.items())
        return {**found, "detail": detail, "code": "invalid", "errors": errors}
    code = getattr(error.detail, "code", None) or error.default_code
    return {**found, "detail": str(error.detail), "code": code}


def _errors(detail: Any) -> dict[str, list[str]]:
    if not isinstance(detail, dict):
        return {"request": [str(text) for text in detail]}
    return {
        str(name): [str(text) for text in (texts if isinstance(texts, list) else [texts])]
        for name, texts in detail.items()
    }
