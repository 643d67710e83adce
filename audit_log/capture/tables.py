"""The rows of one model: their keys in order, a few at a time, and the rows themselves, locked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from django.db import DatabaseError, OperationalError, connections, models, transaction
from django.db.models import Exists, OuterRef, Q, prefetch_related_objects

from audit_log.capture.before import chunks
from audit_log.capture.plans import Plan
from audit_log.recording import losses
from audit_log.registry import audited_models


class Table:
    """The objects of a model in one database. `exists` is False once there was no such table."""

    def __init__(self, plan: Plan, alias: str) -> None:
        self.connection: Any = connections[alias]
        self.exists = True
        self._plan = plan
        self._model = plan.model
        self._related = [item.field.name for item in plan.fields if item.relation]

    def batches(self, size: int) -> Iterator[list[Any]]:
        """The keys of all rows that are there now, `size` at a time, in constant memory."""
        keys = self._without_children(self._rows()).values_list("pk", flat=True)
        last = self._last(keys)
        if last is None:
            return
        # Rows that come in later have events of their own, and there may be no end of them.
        keys = keys.filter(pk__lte=last).order_by("pk")
        found = list(keys[:size])
        while found:
            yield found
            found = list(keys.filter(self._after(found[-1]))[:size])

    def locked(self, keys: Iterable[Any]) -> list[models.Model]:
        """The rows with these keys, whole, locked until COMMIT: those that nobody else holds.

        Nobody is waited for, so there is no deadlock; where the database can only wait, it waits.
        """
        features = self.connection.features
        rows = self._rows()
        if features.has_select_for_update:
            rows = rows.select_for_update(
                skip_locked=features.has_select_for_update_skip_locked,
                # The key does not change, so rows that refer to this one need not wait.
                no_key=features.has_select_for_no_key_update,
            )
        found: list[models.Model] = []
        for portion in chunks(keys):
            instances = list(rows.filter(pk__in=portion).order_by("pk"))
            self._load_related(instances)
            found += instances
        return found

    def present(self, keys: Collection[Any]) -> list[Any]:
        """Those of the keys that have a row, held by others or not."""
        rows = self._rows().values_list("pk", flat=True)
        return [key for portion in chunks(keys) for key in rows.filter(pk__in=portion)]

    def _rows(self) -> models.QuerySet[Any]:
        """All rows, and of each all that is in it, whatever a manager of the project's says."""
        rows = self._model._base_manager.using(self.connection.alias)
        return rows.select_related(None).prefetch_related(None).defer(None)

    def _without_children(self, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        """Without the parents' part of other rows: the last table makes the event."""
        for other in audited_models():
            meta = other._meta
            if not meta.proxy and self._model in meta.all_parents:
                children = other._base_manager.using(self.connection.alias)
                key = self._model._meta.pk.name
                rows = rows.exclude(Exists(children.filter(**{key: OuterRef("pk")})))
        return rows

    def _last(self, keys: models.QuerySet[Any]) -> Any:
        try:
            with transaction.atomic(using=self.connection.alias):
                return keys.order_by("-pk").first()
        except DatabaseError:
            with self.connection.cursor() as cursor:
                names = self.connection.introspection.table_names(cursor, include_views=True)
            if self._model._meta.db_table in names:
                raise
            self.exists = False
            return None

    def _after(self, key: Any) -> Q:
        parts = self._model._meta.pk_fields
        if len(parts) == 1 or self.connection.vendor == "postgresql":
            return Q(pk__gt=key)
        # MariaDB goes through the whole index for (a, b) > (x, y); this it takes for a range.
        names = [part.attname for part in parts]
        beyond = Q(**{f"{names[-1]}__gt": key[-1]})
        for name, value in reversed([*zip(names, key, strict=True)][:-1]):
            beyond = Q(**{f"{name}__gt": value}) | (Q(**{name: value}) & beyond)
        return Q(**{f"{names[0]}__gte": key[0]}) & beyond

    def _load_related(self, instances: list[models.Model]) -> None:
        """Load what they refer to, for labels: once, where each `__str__` might query."""
        if not self._related or not instances:
            return
        try:
            with transaction.atomic(using=self.connection.alias):
                prefetch_related_objects(instances, *self._related)
        except OperationalError:
            raise
        except Exception:  # noqa: BLE001 - somebody else's manager; there are labels without it
            losses.warn("related_failed", "Cannot load what %s refers to.", self._plan.type)
            self._related = []
