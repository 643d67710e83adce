# mypy: ignore-errors
import threading

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models.signals import post_save
from django.test import TransactionTestCase

from books.models import Author, Book, Copy, Note, Tag
from sql_notes import Noted

User = get_user_model()


class AutocommitTests(Noted, TransactionTestCase):
    def test_create_update_delete(self):
        with self.assertNumQueries(1):
            note = Note.objects.create(text="a")
        note.text = "b"
        with self.assertNumQueries(1):
            note.save()
        with self.assertNumQueries(1):
            note.delete()

    def test_cascade(self):
        author = Author.objects.create(name="Ada")
        book = Book.objects.create(title="Notes", author=author)
        Copy.objects.create(book=book, barcode="1")
        assert author.delete()[0] == 3

    def test_atomic(self):
        with transaction.atomic():
            author = Author.objects.create(name="Ada")
            with self.assertNumQueries(3), transaction.atomic():  # SAVEPOINT, INSERT, RELEASE
                Book.objects.create(title="Notes", author=author)
        assert Book.objects.count() == 1

    def test_rollback(self):
        with self.assertRaises(ZeroDivisionError), transaction.atomic():  # noqa: PT027
            Author.objects.create(name="Ada")
            1 / 0  # noqa: B018
        assert not Author.objects.exists()

    def test_relations(self):
        author = Author.objects.create(name="Ada")
        book = Book.objects.create(title="Notes", author=author)
        tags = [Tag.objects.create(name=name) for name in "abc"]
        book.tags.add(*tags)
        book.tags.set(tags[:1])
        book.tags.clear()
        assert not book.tags.exists()

    def test_failed_save_leaves_the_connection_usable(self):
        Tag.objects.create(name="once")
        with self.assertRaises(IntegrityError):  # noqa: PT027
            Tag.objects.create(name="once")
        assert Tag.objects.filter(name="once").count() == 1

    def test_receivers_run_outside_any_transaction(self):
        seen = []

        def receiver(sender, **kwargs):
            seen.append(connection.in_atomic_block)
            with transaction.atomic(durable=True):
                transaction.on_commit(lambda: seen.append("committed"))
            seen.append("received")

        post_save.connect(receiver, sender=Note)
        self.addCleanup(post_save.disconnect, receiver, sender=Note)
        Note.objects.create(text="a")
        assert seen == [False, "committed", "received"]

    def test_callbacks_run_at_once(self):
        seen = []
        transaction.on_commit(lambda: seen.append(1))
        Note.objects.create(text="a")
        assert seen == [1]
        assert connection.run_on_commit == []

    def test_manual_autocommit(self):
        transaction.set_autocommit(False)
        try:
            Note.objects.create(text="kept")
            transaction.commit()
            Note.objects.create(text="dropped")
            transaction.rollback()
        finally:
            transaction.set_autocommit(True)
        assert [note.text for note in Note.objects.all()] == ["kept"]

    def test_requests(self):
        self.client.force_login(User.objects.create_user("reader"))
        response = self.client.post("/books/add/", {"author": "Ada", "title": "Notes"})
        assert response.status_code == 201
        assert Note.objects.get().text == "new: Notes"
        assert self.client.get("/hello/").status_code == 200

    def test_thread(self):
        def write():
            Note.objects.create(text="elsewhere")
            connection.close()

        if connection.vendor == "sqlite":
            self.skipTest("A database in memory belongs to its thread.")
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(10)
        assert Note.objects.count() == 1

    def test_threads_are_ours_alone(self):
        before = threading.enumerate()
        Note.objects.create(text="a")
        self.client.post("/hello/")
        assert threading.enumerate() == before


class FlushTests(TransactionTestCase):
    def test_flush(self):
        Author.objects.create(name="Ada")
        call_command("flush", interactive=False, verbosity=0)
        assert not Author.objects.exists()


class SerializedTests(Noted, TransactionTestCase):
    serialized_rollback = True

    def test_data_of_a_migration_is_there(self):
        assert Tag.objects.get().name == "new"
        Tag.objects.all().delete()

    def test_data_of_a_migration_is_there_again(self):
        assert Tag.objects.get().name == "new"
        Note.objects.create(text="a")


class OwnAppsTests(Noted, TransactionTestCase):
    available_apps = ["django.contrib.contenttypes", "django.contrib.auth", "books"]

    def test_first(self):
        assert not Note.objects.exists()
        Note.objects.create(text="a")

    def test_second(self):
        assert not Note.objects.exists()
        Note.objects.create(text="b")
