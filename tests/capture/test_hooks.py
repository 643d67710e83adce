"""What we replace in Django is what we think it is, and goes back as it was."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.admin import options
from django.contrib.auth import hashers
from django.contrib.auth import middleware as auth_middleware
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.sessions.backends.base import SessionBase
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.deletion import Collector
from django.db.models.fields import related_descriptors
from django.db.models.query_utils import DeferredAttribute
from django.db.models.sql import DeleteQuery, UpdateQuery
from django.db.utils import DatabaseErrorWrapper
from django.test.utils import CaptureQueriesContext
from django.utils.functional import cached_property

from audit_log.capture import (
    admin_pages,
    bulk,
    commands,
    deletes,
    installation,
    references,
    relations,
    saves,
)
from audit_log.events import Event
from audit_log.recording import pending
from tests.capture.statements import statements
from tests.shop.models import Category, Product, Tag, Values

Model: Any = models.Model
FETCH_MODES = django.VERSION >= (6, 1)


@pytest.fixture
def uninstalled() -> Iterator[None]:
    installation.uninstall()
    try:
        yield
    finally:
        installation.install()


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_model_methods_have_the_signatures_we_replace():
    fetch_mode = ["fetch_mode"] if FETCH_MODES else []
    assert _parameters(saves._original_from_db) == [
        "cls",
        "db",
        "field_names",
        "values",
        *fetch_mode,
    ]
    assert _parameters(saves._original_refresh) == ["self", "using", "fields", "from_queryset"]
    assert _parameters(saves._original_save_table) == [
        "self",
        "raw",
        "cls",
        "force_insert",
        "force_update",
        "using",
        "update_fields",
    ]


def test_hooks_on_model_take_what_djangos_own_take():
    assert _parameters(Model._save_table) == _parameters(saves._original_save_table)
    assert _parameters(Model.refresh_from_db) == _parameters(saves._original_refresh)
    assert inspect.signature(Model.from_db).parameters.keys() == (
        inspect.signature(saves._original_from_db).parameters.keys() - {"cls"}
    )


def test_save_passes_positions_that_we_pass_on():
    """`save_base` hands everything to `_save_table` by position."""
    source = inspect.getsource(models.Model.save_base)
    call = source[source.index("self._save_table(") :]
    order = [call.index(word) for word in ("raw", "cls", "force_insert", "force_update", "using")]
    assert order == sorted(order)


def test_fetch_modes_are_there_where_we_think():
    assert hasattr(DeferredAttribute, "fetch_many") is FETCH_MODES
    if FETCH_MODES:
        assert _parameters(saves._original_fetch_many) == ["self", "instances"]


def test_deletion_methods_have_the_signatures_we_replace():
    assert _parameters(deletes._original_delete) == ["self"]
    assert _parameters(deletes._original_delete_batch) == ["self", "pk_list", "using"]
    assert _parameters(deletes._original_raw_delete) == ["self", "using"]
    assert {"data", "origin"} <= set(vars(Collector("default")))


def test_update_methods_have_the_signatures_we_replace():
    assert _parameters(bulk._original_update) == ["self", "kwargs"]
    assert models.QuerySet.update.alters_data  # type: ignore[attr-defined]
    assert _parameters(bulk._original_bulk_update) == ["self", "objs", "fields", "batch_size"]
    assert models.QuerySet.bulk_update.alters_data  # type: ignore[attr-defined]
    parameters = _parameters(references._original_update_batch)
    assert parameters == ["self", "pk_list", "values", "using"]
    assert {"field_updates"} <= set(vars(Collector("default")))


def test_insertion_has_the_signature_we_replace():
    parameters = _parameters(bulk._original_batched_insert)
    assert parameters == [
        "self",
        "objs",
        "fields",
        "batch_size",
        "on_conflict",
        "update_fields",
        "unique_fields",
    ]
    assert parameters == _parameters(models.QuerySet._batched_insert)  # type: ignore[attr-defined]


def test_bulk_methods_go_through_what_we_replace():
    """The one is called for each batch of instances, the other for each kind of key."""
    bulk_update = inspect.getsource(bulk._original_bulk_update)
    assert "filter(pk__in=pks).update(**update_kwargs)" in bulk_update
    assert "update_kwargs[field.attname]" in bulk_update
    bulk_create = inspect.getsource(models.QuerySet.bulk_create)
    assert bulk_create.count("self._batched_insert(") == 2
    assert "opts.db_returning_fields" in bulk_create


def test_page_of_the_admin_has_the_signature_we_replace():
    parameters = ["self", "request", "context", "add", "change", "form_url", "obj"]
    assert _parameters(admin_pages._original) == parameters
    assert _parameters(options.ModelAdmin.render_change_form) == parameters
    admin: Any = options.ModelAdmin
    source = inspect.getsource(admin._changeform_view)
    asked = source.index("has_view_or_change_permission(request, obj)")
    assert asked < source.index("self.render_change_form(")
    assert "obj=obj" in source[source.index("self.render_change_form(") :]
    assert '"inline_admin_formsets": inline_formsets' in source


def test_commands_and_migrations_have_the_signatures_we_replace():
    assert _parameters(commands._original_execute) == ["self", "args", "options"]
    for original in (commands._original_apply, commands._original_unapply):
        assert _parameters(original) == ["self", "project_state", "schema_editor", "collect_sql"]
    # Called by name, and by what runs from a terminal.
    assert "command.execute(*args, **defaults)" in inspect.getsource(call_command)
    assert "self.execute(*args, **cmd_options)" in inspect.getsource(BaseCommand.run_from_argv)


def test_a_stronger_hash_of_the_same_password_is_stored_as_we_think():
    """`_password` holds the new password until the row is saved, and None while it is the same."""
    save = inspect.getsource(AbstractBaseUser.save)
    assert save.index("super().save") < save.index("self._password = None")
    check = inspect.getsource(AbstractBaseUser.check_password)
    saved = check.index('self.save(update_fields=["password"])')
    assert check.index("self._password = None") < saved
    assert "must_update" in inspect.getsource(hashers.verify_password)


def test_sessions_and_users_are_kept_where_we_look():
    assert "request._cached_user" in inspect.getsource(auth_middleware.get_user)
    assert "_session_cache" in inspect.getsource(vars(SessionBase)["_get_session"])


def test_related_manager_has_the_methods_we_replace():
    assert _parameters(relations._original) == ["superclass", "rel", "reverse"]
    manager: Any = Product.tags.related_manager_cls
    own: Any
    djangos: Any
    [own, djangos] = [kind for kind in manager.__mro__ if "_add_items" in vars(kind)]
    assert own is manager
    more = ["using", "raw"] if FETCH_MODES else []
    assert _parameters(djangos._add_items) == [
        "self",
        "source_field_name",
        "target_field_name",
        "objs",
        "through_defaults",
        *more,
    ]
    assert _parameters(djangos._remove_items) == [
        "self",
        "source_field_name",
        "target_field_name",
        "objs",
        *more,
    ]
    assert _parameters(djangos._get_target_ids) == ["self", "target_field_name", "objs"]
    clear = "_clear_base" if FETCH_MODES else "clear"
    assert _parameters(vars(djangos)[clear]) == ["self", *more]
    assert manager.clear.alters_data


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("commit", []),
        ("rollback", []),
        ("savepoint_rollback", ["sid"]),
        ("set_autocommit", ["autocommit", "force_begin_transaction_with_broken_autocommit"]),
        ("close", []),
    ],
)
def test_connection_methods_have_the_signatures_we_wrap(name: str, parameters: list[str]):
    assert set(pending._HOOKS) == {
        "commit",
        "rollback",
        "savepoint_rollback",
        "set_autocommit",
        "close",
    }
    assert _parameters(getattr(BaseDatabaseWrapper, name)) == ["self", *parameters]


def test_errors_of_the_driver_pass_through_one_object():
    assert isinstance(
        inspect.getattr_static(BaseDatabaseWrapper, "wrap_database_errors"), cached_property
    )
    assert _parameters(DatabaseErrorWrapper.__init__) == ["self", "wrapper"]
    exit_parameters = ["self", "exc_type", "exc_value", "traceback"]
    assert _parameters(DatabaseErrorWrapper.__exit__) == exit_parameters


@pytest.mark.django_db
def test_savepoints_are_named_by_their_running_number():
    """How a rollback is matched with what it undoes."""
    state = connection.savepoint_state
    sid = connection.savepoint()
    assert sid is not None
    assert sid.rpartition("_x")[2] == str(state + 1) == str(connection.savepoint_state)
    connection.savepoint_commit(sid)


@pytest.mark.django_db
def test_query_log_can_be_put_aside():
    with CaptureQueriesContext(connection) as queries:
        Category.objects.count()
        log = connection.queries_log
        Values.objects.create(moment=models.functions.Now())  # which is read back
        assert connection.queries_log is log
    assert len(queries) == 2


def test_install_twice_is_install_once():
    before = (Model._save_table, related_descriptors.create_forward_many_to_many_manager)
    installation.install()
    assert (
        Model._save_table,
        related_descriptors.create_forward_many_to_many_manager,
    ) == before
    assert saves._original_save_table is not saves._save_table


def test_uninstall_puts_djangos_own_back(uninstalled: None):
    """L10"""
    for function in (
        Model._save_table,
        Model.from_db,
        Model.refresh_from_db,
        Collector.delete,
        DeleteQuery.delete_batch,
        models.QuerySet._raw_delete,
        models.QuerySet.update,
        models.QuerySet.bulk_update,
        models.QuerySet._batched_insert,  # type: ignore[attr-defined]
        UpdateQuery.update_batch,
        related_descriptors.create_forward_many_to_many_manager,
        options.ModelAdmin.render_change_form,
        *([DeferredAttribute.fetch_many] if FETCH_MODES else []),
    ):
        assert function.__module__.startswith("django."), function
    for each in connections.all(initialized_only=True):
        assert not set(pending._HOOKS) & set(vars(each))
        assert not hasattr(each, "audit_log_work")


@pytest.mark.parametrize("relation", [Product.tags, Tag.products])
def test_relations_used_before_we_came_are_hooked_all_the_same(uninstalled: None, relation: Any):
    """E1: Django keeps the class of a relation's managers."""
    assert relation.related_manager_cls.__module__.startswith("django.")
    assert "_add_items" in vars(relation.related_manager_cls)
    installation.install()
    own = vars(relation.related_manager_cls)["_add_items"]
    assert own.__module__ == relations.__name__


@pytest.mark.django_db
def test_uninstalled_captures_nothing(uninstalled: None, events: list[Event]):
    """L10: nor do related managers that were made before."""
    product, tag = Product.objects.create(name="p"), Tag.objects.create(name="t")
    with statements() as seen:
        product.tags.add(tag)
        product.tags.clear()
        product.save()
    product.delete()
    assert events == []
    assert len(seen) == 3


@pytest.mark.django_db
def test_instances_of_before_are_fit_after(events: list[Event]):
    """Loaded while nothing was installed: old values are unknown, nothing breaks."""
    Category.objects.create(name="a")
    installation.uninstall()
    try:
        category = Category.objects.get()
    finally:
        installation.install()
    category.name = "b"
    category.save()
    assert events[-1].changes == {"name": [None, "b"]}


@pytest.mark.django_db
def test_new_connections_are_hooked_as_they_connect():
    copy = connections["default"].copy()
    try:
        copy.connect()
        assert set(pending._HOOKS) <= set(vars(copy))
    finally:
        copy.close()


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite's own setting.")
def test_sqlite_takes_the_write_lock_as_it_begins_unless_the_project_chose(tmp_path: Any):
    """A deferred transaction fails at once when the relay wrote in between."""
    from django.db.backends.sqlite3.base import DatabaseWrapper

    def mode(name: str, **options: str) -> str | None:
        settings = {**connection.settings_dict, "NAME": name, "OPTIONS": options}
        each: Any = DatabaseWrapper(settings, "default")
        try:
            each.connect()
            found: str | None = each.transaction_mode
            return found
        finally:
            each.close()

    file = tmp_path / "db"
    assert mode(str(file)) == "IMMEDIATE"
    assert mode(str(file), transaction_mode="EXCLUSIVE") == "EXCLUSIVE"
    assert mode(f"file:{file}?mode=ro") is None


@pytest.mark.django_db(databases=["default", "other"])
def test_django_finds_nothing_wrong_with_the_hooks():
    call_command("check")
    with transaction.atomic():
        Category.objects.create(name="a").refresh_from_db(None, ["name"], Category.objects.all())


@pytest.mark.django_db
@pytest.mark.skipif(not FETCH_MODES, reason="Fetch modes came with Django 6.1.")
def test_field_fetched_for_all_peers_has_its_old_value(events: list[Event]):
    """C18: FETCH_PEERS loads a deferred field of every row of the result."""
    Product.objects.create(name="a", description="one")
    Product.objects.create(name="b", description="two")
    peers: Any = models.FETCH_PEERS  # type: ignore[attr-defined, unused-ignore]
    rows: Any = Product.objects.only("name").order_by("name")
    first, second = rows.fetch_mode(peers)
    assert first.description == "one"
    second.description = "changed"
    second.save()
    assert (events[-1].changes or {})["description"] == ["two", "changed"]
    first.save()
    assert [event.action for event in events] == ["create", "create", "update"]


def test_documentation_names_every_hook_and_tests_that_exist():
    text = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()
    for name in (
        "Model.from_db",
        "Model.refresh_from_db",
        "Model._save_table",
        "DeferredAttribute.fetch_many",
        "Collector.delete",
        "DeleteQuery.delete_batch",
        "QuerySet._raw_delete",
        "QuerySet.update",
        "QuerySet.bulk_update",
        "QuerySet._batched_insert",
        "UpdateQuery.update_batch",
        "create_forward_many_to_many_manager",
        "ModelAdmin.render_change_form",
        "connection.queries_log",
        *pending._HOOKS,
    ):
        assert f"`{name}`" in text, name
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named
    assert named <= set(globals())
