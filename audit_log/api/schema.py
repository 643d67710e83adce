"""The OpenAPI document of this API: made by drf-spectacular, kept in `openapi.yaml`.

`python -m audit_log.api` (with DJANGO_SETTINGS_MODULE) writes that file anew; a test holds
it to the views. It is served from the file, so a project's SPECTACULAR_SETTINGS do not touch it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from django.http import HttpResponse

from audit_log.api.openapi import documented
from audit_log.api.resource import Resource

if TYPE_CHECKING:
    from rest_framework.request import Request

FILE: Final = Path(__file__).with_name("openapi.yaml")
MEDIA_TYPE: Final = "application/yaml"
_MOUNT: Final = "/audit"  # where the README mounts it
_SETTINGS: Final[dict[str, Any]] = {
    "TITLE": "Audit log",
    "DESCRIPTION": (
        "Reads the audit log. Who may log in, and how, is the project's matter; who may see what "
        "is permission: `audit_log.view_record`, `audit_log.view_sealed`, `audit_log.view_alert`."
    ),
    "VERSION": "1",
    "SERVERS": [{"url": _MOUNT}],
    "SCHEMA_PATH_PREFIX": "/v1",
    "AUTHENTICATION_WHITELIST": [],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": [],
    "PREPROCESSING_HOOKS": [],
}


class SchemaView(Resource):
    """The OpenAPI document of this API, as YAML."""

    what = "schema"

    @documented({(200, MEDIA_TYPE): str}, operation_id="schema_retrieve", tags=["schema"])
    def get(self, request: Request) -> HttpResponse:
        mount = request.path.removesuffix("/v1/schema/")
        text = FILE.read_text(encoding="utf-8")
        text = text.replace(f"- url: {_MOUNT}\n", f"- url: {json.dumps(mount or '/')}\n")
        return HttpResponse(text, content_type=MEDIA_TYPE)


def generate() -> str:
    """The document as the views are now. Raises RuntimeError for what spectacular warns of."""
    from django.urls import include, path  # noqa: PLC0415 - the URLs import this module
    from drf_spectacular.drainage import GENERATOR_STATS  # noqa: PLC0415
    from drf_spectacular.generators import SchemaGenerator  # noqa: PLC0415
    from drf_spectacular.renderers import OpenApiYamlRenderer  # noqa: PLC0415
    from drf_spectacular.settings import patched_settings  # noqa: PLC0415

    patterns = [path("", include("audit_log.api.urls"))]
    generator: Any = SchemaGenerator  # spectacular annotates no functions
    with patched_settings(_SETTINGS):
        document = generator(patterns=patterns).get_schema(request=None, public=True)
    if GENERATOR_STATS:
        GENERATOR_STATS.emit_summary()
        raise RuntimeError("The document is not complete: see the warnings above.")
    renderer: Any = OpenApiYamlRenderer()
    written: bytes = renderer.render(document, renderer_context={})
    return re.sub(r"^ *x-spec-enum-id: .*\n", "", written.decode(), flags=re.MULTILINE)
