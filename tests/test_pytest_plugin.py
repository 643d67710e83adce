"""The plugin in a project of its own, whose pytest is a process of its own."""

from __future__ import annotations

import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = """
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = [%s"payments"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "for this test only"
USE_TZ = True
"""
MODELS = """
from django.db import models

class Payment(models.Model):
    amount = models.IntegerField(default=0)
    note = models.TextField(default="")

    def __str__(self):
        return "a payment"
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    """Makes a project, with audit_log installed or not, and runs the tests it is given."""
    for name in ("DJANGO_SETTINGS_MODULE", "PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        monkeypatch.delenv(name, raising=False)

    def run(code: str, *options: str, apps: str = '"audit_log", ', django: bool = True):
        found = entry_points(group="pytest11", name="audit_log")
        assert [each.value for each in found] == ["audit_log.pytest_plugin"]
        ini = "[pytest]\nfilterwarnings = error\npythonpath = .\n"
        pytester.makeini(ini + ("DJANGO_SETTINGS_MODULE = settings\n" if django else ""))
        pytester.makepyfile(
            settings=SETTINGS % apps,
            **{
                "payments/__init__": "",
                "payments/models": MODELS,
                "test_it": textwrap.dedent(code),
            },
        )
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)

    return run


def test_fixtures_see_what_a_test_of_the_project_saves(project):
    result = project("""
        import pytest
        from django.db import transaction
        from payments.models import Payment

        @pytest.mark.django_db
        def test_in_a_transaction_that_is_rolled_back(audit_events, assert_audited):
            payment = Payment.objects.create(amount=1)
            payment.amount = 2
            payment.save()
            assert [event.action for event in audit_events] == ["create", "update"]
            event = assert_audited("payments.payment", "update", pk=payment.pk, amount=(1, 2))
            assert event is audit_events[1]

        @pytest.mark.django_db(transaction=True)
        def test_with_real_transactions(assert_audited, audit_events):
            payment = Payment.objects.create(amount=1)
            with transaction.atomic():
                payment.delete()
                transaction.set_rollback(True)
            assert_audited("payments.payment", "create")
            assert len(audit_events) == 1

        def test_database_after_the_fixture(audit_events, db):
            Payment.objects.create()
            assert len(audit_events) == 1

        @pytest.fixture
        def paid(db):
            return Payment.objects.create(amount=5)

        def test_what_other_fixtures_saved_before_is_not_there(paid, audit_events):
            assert audit_events == []

        def test_events_of_other_tests_are_not_there(audit_events):
            assert audit_events == []
    """)
    result.assert_outcomes(passed=5)


def test_failing_assertion_shows_what_was_captured(project):
    result = project("""
        from payments.models import Payment

        def test_it(assert_audited, db):
            payment = Payment.objects.create(amount=1)
            assert_audited("payments.payment", "update", pk=payment.pk, amount=2)
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E * AssertionError: Not audited: update payments.payment 1 amount=2. Captured:",
            "E *   create payments.payment 1 amount=None -> 1*",
        ]
    )


LEAKS = """
    import pytest
    from django.http import HttpResponse
    from django.urls import path
    from payments.models import Payment

    urlpatterns = [path("pay/", lambda request: HttpResponse("paid"))]

    @pytest.fixture(autouse=True)
    def _site(settings):
        settings.ROOT_URLCONF = __name__
        settings.MIDDLEWARE = ["audit_log.middleware.AuditMiddleware"]
"""


def test_leaks_example_of_the_documents_runs(project):
    page = (ROOT / "docs" / "testing.md").read_text()
    section = page.split("## Looking for leaks", 1)[1]
    example = section.split("```python", 1)[1].split("```", 1)[0]
    result = project(textwrap.dedent(LEAKS) + example)
    result.assert_outcomes(passed=1)


def test_leaks_that_a_test_makes_fail_it_at_its_end(project):
    result = project("""
        import audit_log
        from audit_log.events import Target
        from payments.models import Payment

        def test_sound(audit_leaks, db):
            Payment.objects.create(note=f"paid with {audit_leaks.secret('card')}")

        def test_leaking(audit_leaks, db):
            key = audit_leaks.secret("token", through="the key of a thing")
            audit_log.record("a.b", target=Target(type="a.b", id=key))

        def test_without_secrets(audit_leaks, db):
            pass
    """)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(
        [
            "E *1 of 1 secrets (seed *) were found:",
            "E *token #1 (* sent through the key of a thing*",
        ]
    )


def test_project_without_the_app_does_not_notice(project):
    code = """
        import sys
        from payments.models import Payment

        def test_it(db):
            Payment.objects.create()
            assert "audit_log.pytest_plugin" in sys.modules
            assert "audit_log.testing" not in sys.modules
    """
    project(code, apps="").assert_outcomes(passed=1)


def test_fixture_without_the_app_says_what_is_missing(project):
    result = project("def test_it(assert_audited, db):\n    pass\n", apps="")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*audit_log is not in INSTALLED_APPS.*"])


def test_fixture_without_django_set_up_says_so(project):
    result = project("def test_it(audit_events):\n    pass\n", "-p", "no:django", django=False)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*Django is not set up*"])


def test_fixtures_are_listed_with_what_they_do(project):
    result = project("", "--fixtures", "-q")
    result.stdout.fnmatch_lines(["audit_events -- *", "assert_audited -- *"], consecutive=False)


def test_fixtures_of_the_projects_own_come_first(project, pytester):
    pytester.makeconftest("import pytest\n\n@pytest.fixture\ndef audit_events():\n    return 7\n")
    result = project("def test_it(audit_events):\n    assert audit_events == 7\n", apps="")
    result.assert_outcomes(passed=1)


@pytest.mark.slow
def test_workers_of_xdist_have_them_too(project):
    result = project(
        """
        import pytest
        from payments.models import Payment

        @pytest.mark.parametrize("number", range(4))
        def test_it(assert_audited, db, number):
            payment = Payment.objects.create(amount=number)
            assert_audited("payments.payment", "create", pk=payment.pk, amount=number)
        """,
        "-n",
        "2",
    )
    result.assert_outcomes(passed=4)
