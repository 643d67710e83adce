"""The History button of audited objects."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import pytest
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType

import audit_log
from audit_log.admin import history
from audit_log.models import Record
from tests.admin.pages import URL, text_of
from tests.shop.models import Category, Country, Product, Unlisted

pytestmark = pytest.mark.django_db


def phrases_on(response) -> list[str]:
    return re.findall(r'<td class="audit-long" title="([^"]*)">', text_of(response))


@pytest.fixture
def lamps(store) -> Category:
    category = Category.objects.create(name="Lamps")
    category.name = "Lights"
    category.save()
    Category.objects.create(name="another")
    store()
    return category


@pytest.mark.parametrize("site", ["admin", "ops"])
def test_history_shows_the_records_of_the_object_newest_first(root, lamps, site):
    """I3: on the default site and on one of the project's own."""
    response = root.get(f"/{site}/shop/category/{lamps.pk}/history/")
    assert phrases_on(response) == ["update", "create"]
    row = Record.objects.get(action="update")
    # The log is on the default site only.
    assert f"{URL}{row.pk}/change/" in text_of(response)
    assert "Lights" in text_of(response)


@pytest.mark.parametrize("site", ["admin", "ops"])
def test_history_outlives_the_object(root, lamps, store, site):
    """I3."""
    key = lamps.pk
    lamps.delete()
    store()
    response = root.get(f"/{site}/shop/category/{key}/history/")
    assert phrases_on(response) == ["delete", "update", "create"]
    assert "does not exist any more" in text_of(response)
    assert "History: Lights" in text_of(response)


def test_object_that_never_was_is_left_to_django(root):
    response = root.get("/admin/shop/category/4711/history/", follow=True)
    assert response.redirect_chain
    assert "exist. Perhaps it was deleted" in text_of(response)


@pytest.mark.parametrize("key", ["_", "nonsense", "9" * 40])
def test_odd_key_is_left_to_django(root, key):
    assert root.get(f"/admin/shop/category/{key}/history/").status_code == 302


def test_history_needs_view_record_else_it_is_django_s(staff, as_user, lamps):
    """I3."""
    client = as_user(staff("shop.view_category"))
    response = client.get(f"/admin/shop/category/{lamps.pk}/history/")
    assert "have a change history" in text_of(response)
    assert phrases_on(response) == []


def test_history_needs_the_permission_of_the_object_s_own_admin(viewer, lamps, store):
    """I3."""
    url = f"/admin/shop/category/{lamps.pk}/history/"
    assert viewer.get(url).status_code == 403
    lamps.delete()
    store()
    assert viewer.get(url).status_code == 403


def test_history_is_paginated(root, lamps, store, monkeypatch):
    """I3."""
    monkeypatch.setattr(history, "_PER_PAGE", 2)
    for n in range(3):
        lamps.name = f"Lights {n}"
        lamps.save()
    store()
    url = f"/admin/shop/category/{lamps.pk}/history/"
    first, last = root.get(url), root.get(url, {"p": 3})
    assert phrases_on(first) == ["update", "update"]
    assert phrases_on(last) == ["create"]
    assert '<a href="?p=3">3</a>' in text_of(first)
    assert root.get(url, {"p": "<script>"}).status_code == 200


def test_history_of_an_object_with_a_text_key(root, store):
    country = Country.objects.create(code="_/New York", name="NY")
    store()
    url = f"/admin/shop/country/{quote(country.pk)}/history/"
    response = root.get(url)
    assert phrases_on(response) == ["create"]
    filtered = re.search(r'<a href="([^"]*)">Filter them</a>', text_of(response))
    assert filtered is not None
    assert phrases_on(root.get(filtered[1].replace("&amp;", "&"))) == ["create"]


def test_model_that_is_not_audited_keeps_django_s_page(root):
    row = Unlisted.objects.create(name="x")
    response = root.get(f"/admin/shop/unlisted/{row.pk}/history/")
    assert "have a change history" in text_of(response)


def test_django_s_own_log_stays_within_reach(root, lamps):
    LogEntry.objects.create(
        user=User.objects.get(username="root"),
        content_type=ContentType.objects.get_for_model(Category),
        object_id=str(lamps.pk),
        object_repr="Lights",
        action_flag=CHANGE,
        change_message="said by the admin",
    )
    url = f"/admin/shop/category/{lamps.pk}/history/"
    assert 'href="?django"' in text_of(root.get(url))
    assert "said by the admin" not in text_of(root.get(url))
    assert "said by the admin" in text_of(root.get(f"{url}?django"))


def test_looking_at_a_history_is_recorded(root, lamps, store):
    root.get(f"/admin/shop/category/{lamps.pk}/history/")
    store()
    row = Record.objects.get(action="audit_log.viewed")
    said = audit_log.contents(row)["data"]
    assert said == {"what": "history", "query": f"shop.category#{lamps.pk}", "results": 2}


def test_object_that_cannot_say_its_name_has_a_history(root, store, monkeypatch):
    product = Product.objects.create(name="x")
    store()

    def fail(self: Product) -> str:
        raise RuntimeError

    monkeypatch.setattr(Product, "__str__", fail)
    text = text_of(root.get(f"/admin/shop/product/{product.pk}/history/"))
    assert "&lt;Product: RuntimeError&gt;" in text


def test_hook_can_be_taken_off():
    ours = admin.ModelAdmin.history_view
    history.uninstall()
    try:
        assert admin.ModelAdmin.history_view.__module__ == "django.contrib.admin.options"
    finally:
        history.install()
    history.install()
    assert admin.ModelAdmin.history_view is ours


def test_history_of_a_record_is_who_looked_at_it(opener, root, lamps, store):
    row = Record.objects.get(action="update")
    opener.post(f"{URL}{row.pk}/open/", {"reason": "x"})
    store()
    assert phrases_on(root.get(f"{URL}{row.pk}/history/")) == ["audit_log.revealed"]


WITHOUT_ADMIN = """
    import sys
    import django
    from django.conf import settings

    settings.configure(
        SECRET_KEY="x",
        INSTALLED_APPS=["audit_log"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    )
    django.setup()
    from django.core.management import call_command

    call_command("check")
    places = ("audit_log.admin", "django.contrib.admin")
    loaded = [name for name in sys.modules if name.startswith(places)]
    print("loaded:", loaded)
"""


def test_nothing_of_the_admin_is_imported_where_it_is_not_installed():
    code = textwrap.dedent(WITHOUT_ADMIN)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=300
    )
    assert "loaded: []" in result.stdout, result.stdout + result.stderr
