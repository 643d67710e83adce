"""A disclosure as a file: JSON for programs, and a page that a person can read without any."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.utils.html import escape

from audit_log.retention.disclosure import Disclosure

_HEAD: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem }}
article {{ border-top: 1px solid #8888; padding: .75rem 0 }}
h2 {{ font-size: 1rem; margin: 0 }}
dl {{ display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: 0 1rem }}
dt {{ color: #777 }} dd {{ margin: 0; overflow-wrap: anywhere; white-space: pre-wrap }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #eee }} }}
</style>
<h1>{title}</h1>
"""

_STEERING: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def as_json(found: Disclosure) -> Iterator[str]:
    """One JSON object: the head, `records`, and what could not be read."""
    yield _visible(json.dumps(found.head, ensure_ascii=False, indent=1)).removesuffix("\n}")
    yield ',\n "records": ['
    separator = "\n"
    for entry in found.entries():
        yield separator + _visible(json.dumps(entry, ensure_ascii=False))
        separator = ",\n"
    tail = json.dumps({"count": found.count, "unread": found.unread}, ensure_ascii=False)
    yield f"\n ],\n {_visible(tail[1:-1])}\n}}\n"


def as_html(found: Disclosure) -> Iterator[str]:
    """A page of its own, without scripts and without anything from elsewhere."""
    head = found.head
    yield _HEAD.format(title=escape(_visible(f"What the audit log holds of {head['subject']}")))
    yield f"<p>{escape(head['about'])}</p>{_list(head, leave_out={'about', 'subject'})}\n"
    for entry in found.entries():
        what = " ".join(filter(None, (entry["action"], entry["target"].get("type"))))
        title = escape(_visible(what))
        yield (
            f"<article><h2><time>{escape(entry['time'])}</time> <bdi>{title}</bdi></h2>"
            f"{_list(entry, leave_out={'time', 'action'})}</article>\n"
        )
    yield f"<p>{found.count} records.</p>\n"
    for text in found.unread:
        yield f"<p>Not read: {escape(_visible(text))}</p>\n"


def _list(values: Mapping[str, Any], *, leave_out: set[str]) -> str:
    items = (
        f"<dt>{escape(name)}</dt><dd><bdi>{escape(_text(value))}</bdi></dd>"
        for name, value in values.items()
        if name not in leave_out and value is not None
    )
    return f"<dl>{''.join(items)}</dl>"


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    return _visible(text)


def _visible(text: str) -> str:
    """What could steer a terminal or turn the direction of text, as JSON escapes it."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


FORMATS: Final = {"json": as_json, "html": as_html}
