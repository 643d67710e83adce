"""How the views describe themselves, for drf-spectacular."""

# A field may be called `errors`: DRF's metaclass takes it out of the class.
# mypy: disable-error-code="assignment"

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers

from audit_log.api.problems import MEDIA_TYPE

JSON: Final = "application/json"
_View = TypeVar("_View", bound=Callable[..., Any])
_PROBLEMS: Final = {
    400: "A parameter is unknown, or has a value that makes no sense.",
    401: "Nobody is logged in (403 where the project's log-in has no challenge).",
    403: "The user lacks the permission. The attempt is recorded.",
    404: "There is no such thing.",
    409: "The number is beyond the end of the stream: was it restored from a backup?",
    410: "The records that follow are not in the database any more; `detail` says where to go on.",
    429: "Too many requests; `Retry-After` says how many seconds to wait.",
}
_HEADER: Final = OpenApiParameter(
    "Audit-Checkpoint",
    str,
    OpenApiParameter.HEADER,
    description=(
        "The newest signed checkpoints, as a structured field (RFC 9651): "
        '`"default";size=1234;root=:<base64>:, …`.'
    ),
    response=[200],
)


class Problem(serializers.Serializer[Any]):
    """An error (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField(help_text="The path that was asked for.")
    code = serializers.CharField(help_text="The same as a word, such as `permission_denied`.")
    errors = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="What is wrong, by parameter.",
    )


class Schema(AutoSchema):
    """drf-spectacular's, and harmless to a project that still uses DRF's own generator."""

    def get_operation(self, path: str, *rest: Any) -> Any:
        """What spectacular asks with five arguments; DRF's own asks with two."""
        if len(rest) == 1:
            return {"operationId": path, "responses": {"200": {"description": ""}}}
        return super().get_operation(path, *rest)

    def get_components(self, path: str, method: str) -> dict[str, Any]:
        """For DRF's own generator: none."""
        return {}


def documented(
    answer: Any,
    *problems: int,
    parameters: Iterable[OpenApiParameter] = (),
    **options: Any,
) -> Callable[[_View], _View]:
    """Say what a method answers: `answer` for 200, or {(code, type): answer}; and problems.

    Those that all views have are added.
    """
    # All keys are pairs: spectacular takes the least of them, as text, for the main answer.
    responses = answer if isinstance(answer, dict) else {(200, JSON): answer}
    refused = {
        (code, MEDIA_TYPE): OpenApiResponse(Problem, description=_PROBLEMS[code])
        for code in sorted({401, 403, 429, *problems})
    }
    extend = extend_schema(
        responses={**responses, **refused}, parameters=[*parameters, _HEADER], **options
    )

    def decorate(method: _View) -> _View:
        # What is extended is our Schema, not the project's DEFAULT_SCHEMA_CLASS.
        method.kwargs = {"schema": Schema}  # type: ignore[attr-defined]
        return extend(method)

    return decorate


def query(name: str, text: str, **options: Any) -> OpenApiParameter:
    """A query parameter: text, unless `type` says otherwise."""
    return OpenApiParameter(name, options.pop("type", str), description=text, **options)
