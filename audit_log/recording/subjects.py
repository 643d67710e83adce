"""Whose data a row is: the person as a subject, `app.model:id`, or `subject:value`.

One person has one name, whichever table, proxy or path leads to them: what is sealed under another
name is not found when they are erased.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import models

from audit_log.conf import get_settings
from audit_log.events import Target
from audit_log.recording import losses
from audit_log.recording.targets import model_of, target_type
from audit_log.recording.values import clean
from audit_log.registry import Rule, options_for


class Subject(NamedTuple):
    """A rule, and the model that it was given for: the row's own, or a parent of it."""

    model: type[models.Model]
    rule: Rule

    def of(self, instance: models.Model) -> str | None:
        """The person whose data the instance is."""
        if callable(self.rule):
            return _named(_asked(instance, self.rule))
        path, _, name = self.rule.rpartition(".")
        owner = _asked(instance, attrgetter(path)) if path else instance
        if not isinstance(owner, models.Model):
            return None if owner is None else _named(_asked(owner, attrgetter(name)))
        return _of_field(owner, name, owner.__class__ if path else self.model)


def subject_of(model: type[models.Model]) -> Subject | None:
    """Whose data the rows of a model are: by its own registration, else by that of a parent table.

    Users are their own.
    """
    for each in _tables(model):
        options = options_for(each)
        if options is not None and options.subject is not None:
            return Subject(each, options.subject)
        if _is_user_model(each):
            return Subject(each, "pk")
    return None


def subject_of_target(target: models.Model | Target | None) -> str | None:
    """Whose data it is what is recorded about an object, or about what stands for one."""
    if isinstance(target, models.Model):
        found = subject_of(target.__class__)
        return None if found is None or target.pk is None else found.of(target)
    if target is None or target.id is None or (model := model_of(target.type)) is None:
        return None
    return clean(f"{person_type(model)}:{target.id}") if is_person(model) else None


def is_person(model: type[models.Model]) -> bool:
    """Whether its rows are persons themselves."""
    found = subject_of(model)
    return found is not None and _is_key(found.model, found.rule)


def person_type(model: type[models.Model]) -> str:
    """The first part of the name of a person who is a row of a model.

    A row that stands in several tables (multi-table inheritance) is one person: that of the topmost
    which is a person's, or of the user model.
    """
    found = model._meta.concrete_model or model
    for each in _tables(model):
        if _is_user_model(each):
            return target_type(each)
        options = options_for(each)
        if options is not None and _is_key(each, options.subject):
            found = each
    return target_type(found)


def leads_to_key(field: Any) -> bool:
    """Whether a field tells a person as they are called: not a foreign key to another column."""
    return not isinstance(field, models.ForeignKey) or field.target_field.primary_key


def _tables(model: type[models.Model]) -> Iterator[type[models.Model]]:
    """The model itself (of a proxy: what it stands for), then its parents that have tables."""
    for each in model.__mro__:
        meta = getattr(each, "_meta", None)
        if meta is not None and not meta.abstract and not meta.proxy:
            yield each


def _is_user_model(model: type[models.Model]) -> bool:
    return model._meta.label_lower == get_settings().user_model.lower()


def _is_key(model: type[models.Model], rule: Rule | None) -> bool:
    return rule == "pk" or any(rule in {key.name, key.attname} for key in model._meta.pk_fields)


def _of_field(instance: models.Model, name: str, model: type[models.Model]) -> str | None:
    fields = model._meta.concrete_fields
    field = next((item for item in fields if name in {item.attname, item.name}), None)
    related = getattr(field, "related_model", None)
    if field is not None and not leads_to_key(field):
        return _named(_asked(instance, attrgetter(field.name)))  # only its row knows its key
    value = _read(instance, name if field is None else field.attname)
    if isinstance(value, models.Model) or value is None:
        return _named(value)
    if isinstance(related, type):
        return clean(f"{person_type(related)}:{value}")
    if name == "pk" or (field is not None and field.primary_key):
        return clean(f"{person_type(model)}:{value}")
    return _named(value)


def _named(value: Any) -> str | None:
    """A person as a subject, given as an object or as whatever tells people apart."""
    if value is None or value == "":
        return None
    if isinstance(value, models.Model):
        return clean(f"{person_type(value.__class__)}:{value.pk}")
    return clean(f"subject:{value}")


def _asked(instance: Any, rule: Any) -> Any:
    """What a callable, or a path such as `account.owner`, says of an instance.

    A path may have to load what it leads through, once: that is remembered on the instance, as it
    would be for the project.
    """
    try:
        return rule(instance)
    except Exception:  # noqa: BLE001 - a project's code, or a relation that leads nowhere
        losses.warn("subject_failed", "Cannot tell the subject of %s.", type(instance))
        return None


def _read(instance: models.Model, name: str) -> Any:
    """An attribute, leaving no trace: a relation is not loaded, a deferred field stays so."""
    known = name in instance.__dict__
    try:
        return getattr(instance, name)
    except Exception:  # noqa: BLE001 - a property of the project's may raise anything
        losses.warn("subject_failed", "Cannot read the subject %r of %s.", name, type(instance))
        return None
    finally:
        if not known:
            instance.__dict__.pop(name, None)
