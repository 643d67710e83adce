"""L12: the wheel in a project of a user's own, by the steps of README.md, and then an upgrade."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import settings
from tests.faults.servers import free_port, redis_server
from tests.guests import installing
from tests.guests.installing import ROOT, Block, Site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),  # the first of them installs all packages anew
    # `startproject` makes a project on SQLite, whatever this run's database is.
    pytest.mark.skipif(settings.DATABASE != "sqlite", reason="Runs with the suite on SQLite."),
]
SEARCH = "python manage.py audit_log search --json --limit 1000"


def found(site: Site, *filters: str) -> list[dict[str, Any]]:
    printed = site.run(f"python manage.py audit_log relay --json && {SEARCH} {' '.join(filters)}")
    return [json.loads(line) for line in printed.splitlines()[1:]]


def verified(site: Site) -> int:
    """How many records the log has, all of them proved."""
    said = json.loads(site.run("python manage.py audit_log verify --no-record --json"))
    assert said["verified"] is True
    return sum(stream["size"] for stream in said["streams"].values())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installing.wheel_of(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def steps() -> list[Block]:
    return installing.blocks(ROOT)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path, steps: list[Block]) -> Site:
    """A project that has followed the README."""
    site = installing.made(tmp_path_factory.mktemp("installed"))
    installing.need_index(site)
    installing.follow(site, steps, wheel)
    return site


@pytest.fixture
def site(installed: Site, tmp_path: Path) -> Site:
    """A copy of it for one test."""
    return installed.copied(tmp_path / "site")


def test_package_comes_from_the_wheel(site):
    """L12: not from this checkout, and with everything that it needs."""
    printed = site.run("python -c 'import audit_log; print(audit_log.__file__)'")
    assert Path(printed.strip()).is_relative_to(site.environment)
    site.run("python -m pip check")


def test_first_user_is_on_record_with_the_email_sealed(site):
    """L12."""
    (created,) = found(site, "action:create", "target:auth.user")
    assert created["target"] == {"type": "auth.user", "id": "1", "label": "ada"}
    assert created["service"] == "mysite"
    assert "ada@example.com" not in json.dumps(created)
    (opened,) = found(site, "action:create", "target:auth.user", "--open")
    assert opened["contents"]["changes"]["email"] == [None, "ada@example.com"]


def test_log_verifies_and_the_next_change_is_recorded_too(site):
    """L12."""
    before = verified(site)
    site.run(
        "python manage.py shell",
        entered="from django.contrib.auth.models import User\n"
        "User.objects.filter(username='ada').get().save()\n"
        "User.objects.create_user('grace', 'grace@example.com')\n",
    )
    assert [row["target"]["label"] for row in found(site, "action:create", "target:auth.user")] == [
        "grace",
        "ada",
    ]
    assert verified(site) > before


@pytest.fixture
def browser(site: Site) -> Iterator[httpx.Client]:
    """A client of the running site, logged in."""
    port = free_port()
    with (
        site.running(f"python manage.py runserver --noreload 127.0.0.1:{port}"),
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            follow_redirects=True,
            timeout=installing.SECONDS,
            transport=httpx.HTTPTransport(retries=9),  # 0.5 s, 1 s, 2 s, ... until it listens
        ) as client,
    ):
        page = client.get("/admin/login/")
        token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[0]
        form = {"username": "ada", "password": installing.PASSWORD, "csrfmiddlewaretoken": token}
        page = client.post("/admin/login/?next=/admin/", data=form)
        assert "Log out" in page.text
        yield client


def test_admin_lists_the_records_and_shows_one(site, browser):
    """L12."""
    page = browser.get("/admin/audit_log/record/?q=action:create")
    assert page.status_code == 200
    links = re.findall(r'href="(/admin/audit_log/record/[0-9a-f-]{36}/[^"]*)"', page.text)
    assert links
    assert "Its columns give the leaf in the tree." in browser.get(links[-1]).text
    history = browser.get("/admin/auth/user/1/history/")
    assert "/admin/audit_log/record/" in str(history.url) or "create" in history.text
    assert [row["action"] for row in found(site, "action:login")] == ["login"]
    listed = browser.get("/audit/v1/records/", params={"action": "create"})
    assert listed.status_code == 200
    assert "create" in {row["action"] for row in listed.json()["results"]}


def test_auditors_may_look_without_being_superusers(site):
    """L12."""
    printed = site.run(
        "python manage.py shell --verbosity 0",
        entered="from django.contrib.auth.models import Group, User\n"
        "user = User.objects.create_user('eve')\n"
        "user.groups.add(Group.objects.get(name='Auditors'))\n"
        "user = User.objects.get(username='eve')\n"
        "print([user.has_perm('audit_log.' + p) for p in ('view_record', 'view_sealed')])\n",
    )
    assert "[True, True]" in printed


def test_keys_made_afterwards_leave_all_readable(site):
    """L12: what was recorded before there were keys can be opened and proved with them."""
    printed = site.run("python manage.py check --deploy")
    assert "audit_log" not in printed
    rows = found(site, "--open")
    assert len(rows) > 5
    assert [row["contents"]["closed"] for row in rows if row["contents"]["closed"]] == []
    assert verified(site)
    assert "All is well." in site.run("python manage.py audit_log status --check")


def test_worker_with_beat_relays_by_itself(site, steps, tmp_path):
    """L12: the steps with Celery, on a broker of its own."""
    with redis_server(tmp_path) as server:
        for step in steps:
            if step.is_for_celery and step.kind == "python":
                code = re.sub(r"redis://[\w.:/]+", server.url, step.code)
                site.take(Block(step.kind, code))
        (line,) = [step.code.strip() for step in steps if step.code.startswith("celery")]
        with site.running(f"{line} --loglevel warning"):
            site.run("python manage.py createsuperuser --noinput --username mary")
            site.wait_for(f"{SEARCH} action:create", '"label": "mary"')
    verified(site)


def test_upgrade_keeps_what_was_recorded(tmp_path, wheel):
    """L12: the previous version with data in place, then this one."""
    site = installing.made(tmp_path)
    installing.need_index(site)
    tree, version = installing.previous_tree(tmp_path / "tree")
    installing.follow(site, installing.blocks(tree), installing.wheel_of(tree, tmp_path / "dist"))
    assert version in site.run("python -m pip show django-audit-ledger")
    before = found(site, "--open")
    site.run("python manage.py createsuperuser --noinput --username waits")  # in the outbox
    site.run(f"python -m pip install --quiet --disable-pip-version-check --upgrade {wheel}")
    site.run("python manage.py migrate")
    assert "No changes detected" in site.run("python manage.py makemigrations --check")
    assert "audit_log" not in site.run("python manage.py check --deploy")
    after = {row["id"]: row for row in found(site, "--open")}
    assert [after[row["id"]] for row in before] == before
    assert [row["target"]["label"] for row in found(site, "action:create", "target:auth.user")] == [
        "waits",
        "ada",
    ]
    assert verified(site) >= len(after)
