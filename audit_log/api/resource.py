"""What every view of the API shares. All of DRF's policies are named here.

A project's REST_FRAMEWORK settings are made for the project's API: of them, only who may log in
(DEFAULT_AUTHENTICATION_CLASSES) and the throttle rates apply to this one.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from rest_framework.exceptions import (
    AuthenticationFailed,
    NotAuthenticated,
    ParseError,
    PermissionDenied,
    ValidationError,
)
from rest_framework.generics import GenericAPIView
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from audit_log.api import problems, throttling
from audit_log.api.openapi import Schema
from audit_log.ledger.merkle import HASH_BYTES
from audit_log.models import Checkpoint
from audit_log.reading import access
from audit_log.reading.streams import newest_checkpoints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rest_framework.authentication import BaseAuthentication
    from rest_framework.renderers import BaseRenderer
    from rest_framework.request import Request
    from rest_framework.response import Response

    _Generic = GenericAPIView[Any]
else:
    _Generic = GenericAPIView

VIEW: Final = "audit_log.view_record"
OPEN: Final = "audit_log.view_sealed"
VIEW_ALERTS: Final = "audit_log.view_alert"
CHECKPOINT_HEADER: Final = "Audit-Checkpoint"
_REFUSED: Final = (AuthenticationFailed, NotAuthenticated, PermissionDenied)
_ERROR: Final = 400


class Permitted(BasePermission):
    """Those with all permissions that the view `needs`. Nobody has to be staff."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        has_perm = getattr(request.user, "has_perm", None)  # a project may know no anonymous user
        needs: tuple[str, ...] = view.needs  # type: ignore[attr-defined]
        return has_perm is not None and all(has_perm(name) for name in needs)


class PlainJSON(JSONRenderer):
    """JSON, whatever the project has made of its own."""

    compact = True
    ensure_ascii = False
    strict = True


class PlainJSONParser(JSONParser):
    """The same for what is sent."""

    strict = True

    def parse(self, stream: Any, *args: Any, **kwargs: Any) -> Any:
        """DRF's own lets Python's RecursionError through, which would be an error of ours."""
        try:
            return super().parse(stream, *args, **kwargs)
        except RecursionError as error:
            raise ParseError("The JSON is nested too deep.") from error


class OneRenderer(DefaultContentNegotiation):
    """There is one representation of everything, whatever the client accepts (RFC 9110, 12.1)."""

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        first = next(iter(renderers))
        return first, str(first.media_type)


class Resource(APIView):
    """Asks for permissions, records who was refused, and says how far the log is signed.

    `what` is what the view shows, in the words of `audit_log.viewed`.
    """

    what: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = (VIEW,)
    throttle_scope: ClassVar[str] = throttling.READING
    stream: str | None = None  # where only one stream is shown

    permission_classes = (Permitted,)
    throttle_classes = (throttling.Throttle,)
    renderer_classes = (PlainJSON,)
    parser_classes = (PlainJSONParser,)
    content_negotiation_class = OneRenderer
    metadata_class = None
    versioning_class = None
    schema = Schema()

    def get_authenticators(self) -> list[BaseAuthentication]:
        """As the project does it; read when needed, so that tests may override its settings."""
        classes: Any = api_settings.DEFAULT_AUTHENTICATION_CLASSES
        return [make() for make in classes]

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return problems.handle

    def get_format_suffix(self, **kwargs: Any) -> str | None:
        return None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        _refuse_nul({**request.query_params.dict(), **kwargs})

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, _REFUSED):
            access.note_denied(self.what, self.request.META.get("QUERY_STRING"))
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        final["Cache-Control"] = "no-store"
        if final.status_code < _ERROR and (said := checkpoint_header(self.stream)):
            final[CHECKPOINT_HEADER] = said
        return final


def _refuse_nul(asked: dict[str, Any]) -> None:
    """No text in the log holds one, and not every database can be asked about it."""
    errors = {
        name: ["Null characters are not allowed."]
        for name, value in asked.items()
        if "\0" in f"{name}{value}"
    }
    if errors:
        raise ValidationError(errors)


def checkpoint_header(stream: str | None = None) -> str:
    """The newest checkpoints as a structured field (RFC 9651): a list of strings with parameters.

    `"default";size=1234;root=:<base64>:, "audit_log";size=…`; of one stream, where it is named.
    """
    items = [_item(found) for found in newest_checkpoints() if stream in (None, found.stream)]
    return ", ".join(filter(None, items))


def _item(found: Checkpoint) -> str | None:
    """One of the list; none for a row that somebody altered: `verify` names it."""
    name = found.stream.encode("ascii", "backslashreplace").decode()
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    try:
        root, size = bytes.fromhex(found.root), int(found.size)
    except (TypeError, ValueError):
        return None
    if len(root) != HASH_BYTES or not name.isprintable():
        return None
    return f'"{quoted}";size={size};root=:{base64.b64encode(root).decode()}:'


class Listing(Resource, _Generic):
    """Pages of rows. `present` turns those of one page into what is shown."""

    def page(self, request: Request) -> Response:
        """What `get` answers: filtered, cut, shown and noted."""
        rows = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        shown = self.present(rows or [])
        self.note(request, len(shown))
        return self.get_paginated_response(shown)

    def present(self, rows: Sequence[Any]) -> list[Any]:
        """The rows of a page, serialized."""
        return list(self.get_serializer(rows, many=True).data)

    def note(self, request: Request, results: int) -> None:
        """Record that this was read; lists that show no records override it."""
        access.note_viewed(self.what, query=asked(request), results=results, stream=self.stream)


def asked(request: Request) -> str:
    """The query without the place in it: the next page is the same question."""
    params = request.query_params.copy()
    for name in ("cursor", "after", "page_size"):
        params.pop(name, None)
    return str(params.urlencode())
