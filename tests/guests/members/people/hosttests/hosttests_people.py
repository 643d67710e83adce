# mypy: ignore-errors
from django.contrib.auth import authenticate
from django.test import TestCase, TransactionTestCase

from people.models import Member
from sql_notes import Noted


class MemberTests(Noted, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.member = Member.objects.create_user("ada@example.org", "secret")

    def test_login(self):
        assert self.client.login(email="ada@example.org", password="secret")
        with self.assertNumQueries(3):  # the member, in a savepoint
            assert self.client.get("/me/").content == b"ada@example.org"
        with self.assertNumQueries(3):
            assert self.client.post("/me/").status_code == 200
        self.client.logout()
        assert self.client.get("/me/").status_code == 302

    def test_wrong_password(self):
        assert authenticate(email="ada@example.org", password="wrong") is None

    def test_change_of_password(self):
        self.member.set_password("other")
        with self.assertNumQueries(1):
            self.member.save()

    def test_leaving(self):
        self.client.force_login(self.member)
        assert self.client.post("/leave/").status_code == 204
        assert not Member.objects.exists()


class AutocommitTests(Noted, TransactionTestCase):
    def test_failing_request_changes_nothing(self):
        self.client.force_login(Member.objects.create_user("eve@example.org", "secret"))
        with self.assertRaisesMessage(ValueError, "changed my mind"):
            self.client.post("/change/")
        assert Member.objects.get().email == "eve@example.org"

    def test_leaving(self):
        self.client.force_login(Member.objects.create_user("eve@example.org", "secret"))
        assert self.client.post("/leave/").status_code == 204
        assert not Member.objects.exists()
