"""What the tests of the admin read from its pages."""

from __future__ import annotations

import re
from typing import Any

from audit_log.models import Record

URL = "/admin/audit_log/record/"


def text_of(response: Any) -> str:
    return str(response.content.decode())


def page_of(row: Record) -> str:
    return f"{URL}{row.pk}/change/"


def ids_on(response: Any) -> list[str]:
    """The records that a page has rows of, in their order."""
    found = re.findall(rf'<a href="{URL}([0-9a-f-]{{36}})/change/">', text_of(response))
    return list(dict.fromkeys(found))
