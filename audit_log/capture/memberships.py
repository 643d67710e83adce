"""Members that a many-to-many field gained or lost, as events of the object that owns the field."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log import context
from audit_log.capture import accounts
from audit_log.capture.before import chunks
from audit_log.capture.labels import label
from audit_log.capture.plans import plan_of
from audit_log.events import Redaction, Target
from audit_log.privacy.names import kind_of
from audit_log.privacy.redaction import MASK
from audit_log.recording import outbox, pending
from audit_log.recording.targets import target_id, target_type

MAX_LABELS: Final = 100


@dataclass(frozen=True, slots=True)
class Membership:
    """What is common to the events of one operation. `member` is the model on the other side."""

    action: str
    field: str
    member: type[models.Model]
    connection: BaseDatabaseWrapper
    source: str = "orm"

    def note(
        self,
        owner: models.Model,
        keys: Sequence[Any],
        members: Iterable[models.Model],
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Capture that `owner` gained or lost the members with these keys."""
        plan = plan_of(type(owner))
        if plan is None:
            return
        members = list(members)
        labels: list[str] = [label(each, self.connection) for each in members]
        redactions: tuple[Redaction, ...] = ()
        if kind_of(self.field) is not None:
            labels = [MASK] * len(labels)
            redactions = (Redaction("data.labels", f"name:{kind_of(self.field)}"),)
        target = Target(
            type=plan.type,
            id=target_id(type(owner), owner.pk),
            label=label(owner, self.connection),
        )
        for portion in chunks(keys):  # thousands of keys would not fit into one event
            ids = [target_id(self.member, key) for key in portion]
            event = context.new_event(
                self.action,
                source=self.source,
                target=target,
                affected=len(portion),
                data={
                    "field": self.field,
                    "type": target_type(self.member),
                    "ids": ids,
                    "labels": labels,
                    **(extra or {}),
                },
                sealed=("data.labels",),
                redactions=redactions,
                subject=plan.subject_of(owner),
            )
            pending.add(self.connection, event)
            accounts.follow_membership(
                event, type(owner), ids, self.member, members, self.connection
            )
            labels, members = [], []


def field_of(through: type[models.Model]) -> models.ManyToManyField[Any, Any] | None:
    """The field that made a table for itself, where its owner is audited; else None."""
    owner: Any = through._meta.auto_created  # the class whose field it is, or False
    if not owner or plan_of(owner) is None:
        return None
    fields = owner._meta.local_many_to_many
    return next((field for field in fields if field.remote_field.through is through), None)


class Cascaded:
    """Memberships that end because an object on either side is deleted."""

    def __init__(
        self, field: models.ManyToManyField[Any, Any], connection: BaseDatabaseWrapper
    ) -> None:
        self.field = field
        self.connection = connection
        self.pairs: list[tuple[Any, Any]] = []
        self.owners: dict[Any, models.Model] = {}

    def find(self, *, rows: models.QuerySet[Any]) -> None:
        """Look at the rows that are about to go, and at the objects that own them."""
        meta = rows.model._meta
        to_owner = meta.get_field(self.field.m2m_field_name())
        to_member = meta.get_field(self.field.m2m_reverse_field_name())
        with outbox.quiet(self.connection):
            self.pairs = sorted(
                set(rows.values_list(to_owner.attname, to_member.attname)), key=repr
            )
            source = to_owner.target_field.attname
            query = self.field.model._base_manager.using(self.connection.alias)
            for portion in chunks({owner for owner, _ in self.pairs}):
                owners = query.filter(**{f"{source}__in": portion})
                self.owners.update((getattr(owner, source), owner) for owner in owners)

    def capture(self, *, extra: dict[str, Any] | None) -> None:
        """One event for each owner. What the members were called is not asked for."""
        membership = Membership(
            "m2m.remove", self.field.name, self.field.remote_field.model, self.connection
        )
        for key, pairs in groupby(self.pairs, key=lambda pair: pair[0]):
            if key in self.owners:
                membership.note(self.owners[key], [member for _, member in pairs], (), extra)
