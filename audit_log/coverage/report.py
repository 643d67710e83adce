"""The whole report: models, places, and what it cannot know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.apps import apps

from audit_log import conf
from audit_log.coverage import code, overrides, sources, tables
from audit_log.coverage.places import CAPTURED, KINDS, NOT_SEEN, Place
from audit_log.coverage.sources import Project
from audit_log.coverage.watching import STATES, Watched, watched

VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Report:
    """What is watched and what could be missed.

    `unread` are files that could not be read, `unasked` databases that did not answer, with why.
    """

    models: list[Watched]
    places: list[Place]
    roots: list[str]
    unread: list[str]
    unasked: dict[str, str]

    @property
    def states(self) -> Counter[str]:
        """How many models are in each state."""
        return Counter(each.state for each in self.models)

    @property
    def unwatched(self) -> list[str]:
        """Models with a table that are neither audited nor excluded."""
        return [each.label for each in self.models if each.unwatched]

    @property
    def unseen(self) -> list[Place]:
        """Places in the project's own files that nobody has accepted."""
        return [place for place in self.places if place.unseen]

    def as_dict(self) -> dict[str, Any]:
        """The shape that docs/coverage.md promises."""
        return {
            "version": VERSION,
            "enabled": conf.get_settings().enabled,
            "counts": {
                **{state: self.states[state] for state in STATES},
                "places": len(self.places),
                "unseen": len(self.unseen),
            },
            "models": [_model(each) for each in self.models],
            "places": [_place(place) for place in self.places],
            "unwatched": self.unwatched,
            "looked_for": dict(KINDS),
            "captured": CAPTURED,
            "not_seen": list(NOT_SEEN),
            "roots": self.roots,
            "unread": self.unread,
            "unasked": self.unasked,
        }


def report(only_apps: Collection[str] = (), database: str | None = None) -> Report:
    """Look at everything; then keep the models and places of these apps, or of one database."""
    project, known = sources.read(), watched()
    found, unasked = tables.outboxes(known)
    found += tables.unmanaged(project, known)
    found += tables.cascades(project, known)
    found += overrides.places(project, [each.model for each in known if each.state != "own"])
    found += _in_code(project, {each.model._meta.db_table for each in known if each.by_triggers})
    kept = [
        each
        for each in known
        if (not only_apps or each.model._meta.app_label in only_apps)
        and (database is None or each.database == database)
    ]
    if only_apps or database is not None:
        labels = {each.label for each in kept}
        found = [place for place in found if _belongs(place, labels, only_apps, project)]
    order = {kind: n for n, kind in enumerate(KINDS)}
    found.sort(key=lambda place: (order[place.kind], place.path or "", place.line or 0, place.what))
    roots = sorted(
        str(root) for root in project.roots if project.roots.keys().isdisjoint(root.parents)
    )
    return Report(kept, found, roots, sorted(project.unread), unasked)


def _in_code(project: Project, seen: Collection[str]) -> list[Place]:
    found: list[Place] = []
    for path, source in list(project.sources.items()):
        try:
            found += code.places(source, seen)
        except RecursionError:
            project.unread.append(source.shown)
            del project.sources[path]
    return found


def _belongs(
    place: Place, labels: Collection[str], only_apps: Collection[str], project: Project
) -> bool:
    """Whether a place is of one of the models, or in the folder of one of the apps."""
    if place.model is not None:
        return place.model in labels
    if not only_apps:
        return True
    folders = [Path(apps.get_app_config(label).path).resolve() for label in only_apps]
    return any(
        path.is_relative_to(folder)
        for path, source in project.sources.items()
        if source.shown == place.path
        for folder in folders
    )


def _model(each: Watched) -> dict[str, Any]:
    return {
        "model": each.label,
        "app": each.model._meta.app_label,
        "table": each.model._meta.db_table,
        "database": each.database,
        "kind": each.kind,
        "state": each.state,
        "rule": each.rule,
        "named": each.named,
        "through": each.through,
        "capture": ("triggers" if each.by_triggers else "orm") if each.state == "audited" else None,
        "fields": [
            {"name": one.name, "type": one.type, "policy": one.policy, "rule": one.rule}
            for one in each.fields
        ],
    }


def _place(place: Place) -> dict[str, Any]:
    return {
        "kind": place.kind,
        "path": place.path,
        "line": place.line,
        "model": place.model,
        "what": place.what,
        "own": place.own,
        "accepted": place.accepted,
    }
