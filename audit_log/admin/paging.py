"""Pages of a table that is never counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property

from audit_log.models import Record

if TYPE_CHECKING:
    _Base = Paginator[Record]
else:
    _Base = Paginator

LIMIT: Final = 1_000
# What a list does not show, and what may be long.
_UNUSED: Final = ("changes", "redactions", "salt")


class BoundedPaginator(_Base):
    """Looks ahead to the next thousand ids, newest first, and numbers the pages among them.

    COUNT would read the whole index; a thousand ids are one short range of it. What is older
    starts after `last_id`.
    """

    object_list: QuerySet[Record]

    @cached_property
    def ids(self) -> list[Any]:
        """At most a thousand ids, and one more if there is one."""
        return list(self.object_list.values_list("pk", flat=True)[: LIMIT + 1])

    @cached_property
    def count(self) -> int:
        """How many records the pages hold: a thousand at most."""
        return min(len(self.ids), LIMIT)

    @property
    def has_more(self) -> bool:
        """Whether there are records beyond the last page."""
        return len(self.ids) > LIMIT

    @property
    def count_text(self) -> str:
        """`12`, or `1000+`."""
        return f"{self.count}+" if self.has_more else str(self.count)

    @property
    def last_id(self) -> Any:
        """The oldest id on the pages."""
        return self.ids[self.count - 1] if self.count else None

    def page(self, number: int | str) -> Page[Record]:
        """The records of a page, by their ids: no OFFSET either."""
        number = self.validate_number(number)
        ids = self.ids[(number - 1) * self.per_page : number * self.per_page]
        ids = ids[: self.count - (number - 1) * self.per_page]
        rows = self.object_list.model._default_manager.using(self.object_list.db)
        page = rows.filter(pk__in=ids).order_by("-pk").defer(*_UNUSED) if ids else rows.none()
        return Page(page, number, self)
