"""Model instances as targets."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from audit_log.events import Target
from audit_log.privacy.encryption import fingerprint
from audit_log.privacy.policies import key_kind
from audit_log.recording.values import plain, safe_str

if TYPE_CHECKING:
    from django.db.models import Model

MAX_LABEL = 256
MAX_ID = 255


def target_type(model: type[Model]) -> str:
    """`app.model` of the concrete model, so that a proxy shares its history."""
    concrete = model._meta.concrete_model or model
    return concrete._meta.label_lower


def target_id(model: type[Model], pk: Any) -> str | None:
    """A primary key as text; a composite one as a JSON array; a secret one as a fingerprint."""
    if pk is None:
        return None
    if isinstance(pk, (tuple, list)):
        text = json.dumps([plain(part)[0] for part in pk], ensure_ascii=False)
    else:
        value, _ = plain(pk)
        text = value if isinstance(value, str) else safe_str(value)
    kind = key_kind(model)
    if kind is not None:
        return f"fp:{fingerprint(kind, text)}"
    if len(text) > MAX_ID:
        # Cut, but so that two long keys never become one.
        return f"{text[:180]}…{hashlib.sha256(text.encode()).hexdigest()}"
    return text


def target_of(instance: Model) -> Target:
    """The target an instance is, labelled as it prints itself now."""
    model = type(instance)
    return Target(
        type=target_type(model),
        id=target_id(model, instance.pk),
        label=safe_str(instance)[:MAX_LABEL],
    )
