# mypy: ignore-errors
from django.db import transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase

from sql_notes import Noted
from things.models import Thing


class ThingTests(Noted, TestCase):
    def test_life(self):
        with self.assertNumQueries(3):
            thing = Thing.objects.create(name="a")
            thing.name = "b"
            thing.save()
            thing.refresh_from_db()
        assert thing.delete()[0] == 1

    def test_relation_with_itself(self):
        first, second = (Thing.objects.create(name=name) for name in "ab")
        first.parts.add(second)
        assert second.parts.get() == first
        second.parts.clear()
        assert not first.parts.exists()

    def test_requests(self):
        with self.assertNumQueries(1):
            assert self.client.post("/things/", {"name": "a"}).status_code == 201
        with self.assertNumQueries(1):
            assert self.client.get("/things/").json() == {"names": ["a"]}
        assert self.client.get("/nowhere/").status_code == 404

    async def test_async_request(self):
        response = await self.async_client.post("/things/", {"name": "a"})
        assert response.status_code == 201


class TwoDatabasesTests(TestCase):
    databases = {"default", "other"}

    def test_each_has_its_own(self):
        with self.assertNumQueries(2, using="other"), self.assertNumQueries(0):
            thing = Thing.objects.using("other").create(name="a")
            thing.name = "b"
            thing.save()
        with self.assertNumQueries(1):
            assert not Thing.objects.exists()
        with self.captureOnCommitCallbacks(using="other") as callbacks:
            thing.delete()
        assert callbacks == []


class TwoDatabasesAutocommitTests(TransactionTestCase):
    databases = {"default", "other"}

    def test_one_rolls_back(self):
        with transaction.atomic(), transaction.atomic(using="other"):
            Thing.objects.create(name="kept")
            Thing.objects.using("other").create(name="dropped")
            transaction.set_rollback(True, using="other")
        assert Thing.objects.count() == 1
        assert not Thing.objects.using("other").exists()


class AutocommitTests(Noted, TransactionTestCase):
    def test_life(self):
        thing = Thing.objects.create(name="a")
        thing.name = "b"
        thing.save()
        assert self.client.post("/things/", {"name": "c"}).status_code == 201
        assert Thing.objects.all().delete()[0] == 2


class SimpleTests(SimpleTestCase):
    def test_not_found(self):
        assert self.client.post("/nowhere/").status_code == 404
