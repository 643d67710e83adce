# mypy: ignore-errors
import uuid
from decimal import Decimal
from unittest import mock

from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.db.models.signals import post_save, pre_delete
from django.test import TestCase

from books.models import Author, Book, Copy, Loan, Note, Tag
from books.tasks import take_note
from sql_notes import Noted

User = get_user_model()


class SavingTests(Noted, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.author = Author.objects.create(name="Ada")
        cls.book = Book.objects.create(title="Notes", author=cls.author, details={"pages": 3})

    def test_create(self):
        with self.assertNumQueries(1):
            Author.objects.create(name="Bea")

    def test_save_of_new_instance(self):
        book = Book(title="Second", author=self.author)
        with self.assertNumQueries(1):
            book.save()

    def test_update(self):
        self.book.price = Decimal("9.50")
        with self.assertNumQueries(1):
            self.book.save()

    def test_update_fields(self):
        self.book.title = "Other"
        with self.assertNumQueries(1):
            self.book.save(update_fields=["title"])

    def test_save_unchanged(self):
        book = Book.objects.get(pk=self.book.pk)
        with self.assertNumQueries(1):
            book.save()

    def test_save_of_deferred(self):
        book = Book.objects.only("title").get(pk=self.book.pk)
        book.title = "Third"
        with self.assertNumQueries(1):
            book.save()
        with self.assertNumQueries(1):
            assert book.price == Decimal(0)

    def test_expression(self):
        self.book.price = F("price") + 1
        with self.assertNumQueries(1):
            self.book.save()
        with self.assertNumQueries(1):
            self.book.refresh_from_db()
        assert self.book.price == Decimal(1)

    def test_get_or_create_creates(self):
        # SELECT, SAVEPOINT, INSERT, RELEASE
        with self.assertNumQueries(4):
            Author.objects.get_or_create(name="Cleo")

    def test_get_or_create_gets(self):
        with self.assertNumQueries(1):
            Author.objects.get_or_create(name="Ada")

    def test_update_or_create_updates(self):
        # SAVEPOINT, SELECT, UPDATE, RELEASE
        with self.assertNumQueries(4):
            Book.objects.update_or_create(title="Notes", defaults={"price": 4})

    def test_bulk_create(self):
        # No SAVEPOINT: bulk_create() asks for none.
        with self.assertNumQueries(1):
            Note.objects.bulk_create([Note(text=str(n)) for n in range(20)])

    def test_bulk_update(self):
        notes = [Note.objects.create(text=str(n)) for n in range(5)]
        for note in notes:
            note.text += "!"
        with self.assertNumQueries(1):
            Note.objects.bulk_update(notes, ["text"])

    def test_queryset_update(self):
        with self.assertNumQueries(1):
            assert Book.objects.update(price=F("price") + 1) == 1

    def test_str_that_queries_leaves_nothing_cached(self):
        book = Book.objects.get(pk=self.book.pk)
        copy = Copy(book_id=book.pk, barcode="1")
        with self.assertNumQueries(1):
            copy.save()
        with self.assertNumQueries(1):
            assert copy.book.title == "Notes"

    def test_str_leaves_nothing_cached_further_on(self):
        book = Book.objects.get(pk=self.book.pk)
        copy = Copy(book=book, barcode="1")
        with self.assertNumQueries(1):
            copy.save()
        with self.assertNumQueries(1):
            assert copy.book.author.name == "Ada"

    def test_instance_has_no_attribute_of_others(self):
        author = Author.objects.get(pk=self.author.pk)
        author.name = "Ida"
        author.save()
        assert set(vars(author)) == {"_state", "id", "name"}

    def test_failed_save_can_be_caught(self):
        Tag.objects.create(name="once")
        with self.assertRaises(IntegrityError), transaction.atomic():  # noqa: PT027
            Tag.objects.create(name="once")
        assert Tag.objects.filter(name="once").count() == 1

    def test_receivers_see_what_they_always_saw(self):
        seen = []

        def receiver(sender, instance, created, **kwargs):
            seen.append((instance.name, created, connection.in_atomic_block))

        post_save.connect(receiver, sender=Author)
        self.addCleanup(post_save.disconnect, receiver, sender=Author)
        author = Author.objects.create(name="Dora")
        author.name = "Dorothy"
        author.save()
        assert seen == [("Dora", True, True), ("Dorothy", False, True)]

    def test_eager_task(self):
        with self.assertNumQueries(1):
            take_note("from a task")


class DeletingTests(Noted, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.author = Author.objects.create(name="Ada")
        cls.books = [Book.objects.create(title=str(n), author=cls.author) for n in range(3)]
        cls.reader = User.objects.create_user("reader", password="secret")
        for number, book in enumerate(cls.books):
            copy = Copy.objects.create(book=book, barcode=str(number))
            Loan.objects.create(copy=copy, reader=cls.reader)
        Note.objects.bulk_create([Note(text="a"), Note(text="b")])

    def test_instance(self):
        note = Note.objects.first()
        with self.assertNumQueries(1):
            assert note.delete() == (1, {"books.Note": 1})
        assert note.pk is None

    def test_fast(self):
        with self.assertNumQueries(1):
            assert Note.objects.all().delete() == (2, {"books.Note": 2})

    def test_cascade(self):
        with self.assertNumQueries(7):
            count, by_model = self.author.delete()
        assert by_model == {"books.Author": 1, "books.Book": 3, "books.Copy": 3, "books.Loan": 3}
        assert count == 10

    def test_set_null(self):
        self.reader.delete()
        assert Loan.objects.filter(reader=None).count() == 3

    def test_queryset(self):
        Book.objects.filter(title__in=["0", "1"]).delete()
        assert Loan.objects.count() == 1

    def test_deletion_with_a_receiver(self):
        seen = []

        def receiver(sender, instance, **kwargs):
            seen.append(instance.text)

        pre_delete.connect(receiver, sender=Note)
        self.addCleanup(pre_delete.disconnect, receiver, sender=Note)
        Note.objects.all().delete()
        assert sorted(seen) == ["a", "b"]

    def test_raw_delete(self):
        with self.assertNumQueries(1):
            Note.objects.all()._raw_delete("default")


class RelationTests(Noted, TestCase):
    @classmethod
    def setUpTestData(cls):
        author = Author.objects.create(name="Ada")
        cls.book = Book.objects.create(title="Notes", author=author)
        cls.tags = [Tag.objects.create(name=name) for name in "abc"]

    def test_add(self):
        self.book.tags.add(*self.tags)
        assert self.book.tags.count() == 3

    def test_add_again(self):
        self.book.tags.add(self.tags[0])
        self.book.tags.add(self.tags[0])
        assert self.book.tags.count() == 1

    def test_remove(self):
        self.book.tags.add(*self.tags)
        with self.assertNumQueries(1):
            self.book.tags.remove(self.tags[0])

    def test_set(self):
        self.book.tags.add(*self.tags[:2])
        self.book.tags.set(self.tags[1:])
        assert {tag.name for tag in self.book.tags.all()} == {"b", "c"}

    def test_clear(self):
        self.book.tags.add(*self.tags)
        with self.assertNumQueries(1):
            self.book.tags.clear()

    def test_reverse(self):
        self.tags[0].books.add(self.book)
        self.tags[0].books.set([])
        self.tags[1].books.create(title="Second", author=self.book.author)
        assert Book.objects.count() == 2

    def test_prefetched(self):
        self.book.tags.add(*self.tags)
        with self.assertNumQueries(2):
            book = Book.objects.prefetch_related("tags").get(pk=self.book.pk)
            assert len(book.tags.all()) == 3

    def test_groups_of_a_user(self):
        user = User.objects.create_user("reader")
        user.groups.add(Group.objects.create(name="staff"))
        assert user.groups.count() == 1


class CommitTests(Noted, TestCase):
    def test_saves_add_no_callback(self):
        with self.captureOnCommitCallbacks() as callbacks:
            author = Author.objects.create(name="Ada")
            author.name = "Ida"
            author.save()
            author.delete()
            Note.objects.bulk_create([Note(text="x")])
        assert callbacks == []

    def test_callbacks_run_in_their_order(self):
        seen = []
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            transaction.on_commit(lambda: seen.append("first"))
            author = Author.objects.create(name="Ada")
            with transaction.atomic():
                transaction.on_commit(lambda: seen.append(author.name))
                author.books.create(title="Notes")
            transaction.on_commit(lambda: Note.objects.create(text="third"))
        assert seen == ["first", "Ada"]
        assert len(callbacks) == 3

    def test_callbacks_of_a_view(self):
        self.client.force_login(User.objects.create_user("reader"))
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            response = self.client.post("/books/add/", {"author": "Ada", "title": "Notes"})
        assert response.status_code == 201
        assert len(callbacks) == 1
        assert Note.objects.get().text == "new: Notes"

    def test_rolled_back_savepoint_drops_its_callbacks(self):
        with (
            self.captureOnCommitCallbacks(execute=True) as callbacks,
            self.assertRaises(ZeroDivisionError),  # noqa: PT027
            transaction.atomic(),
        ):
            Author.objects.create(name="Ada")
            transaction.on_commit(lambda: Note.objects.create(text="never"))
            1 / 0  # noqa: B018
        assert callbacks == []
        assert not Author.objects.exists()


class RequestTests(Noted, TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.reader = User.objects.create_user("reader", password="secret")
        author = Author.objects.create(name="Ada")
        cls.book = Book.objects.create(title="Notes", author=author)

    def test_get(self):
        with self.assertNumQueries(1):
            response = self.client.get("/books/")
        assert response.json() == {"books": [{"title": "Notes", "price": "0.00"}]}
        assert "Vary" not in response

    def test_get_without_database(self):
        with self.assertNumQueries(0):
            assert self.client.get("/hello/").content == b"hello, GET"

    def test_get_by_a_reader(self):
        self.client.force_login(self.reader)
        with self.assertNumQueries(3):  # session, user, book
            response = self.client.get(f"/books/{self.book.pk}/")
        assert response.json()["reader"] == "reader"

    def test_post_that_never_asks_who(self):
        self.client.force_login(self.reader)
        with self.assertNumQueries(0):
            response = self.client.post("/hello/", {"any": "thing"})
        assert response.content == b"hello, POST"
        assert "Vary" not in response

    def test_post(self):
        self.client.force_login(self.reader)
        # Session and user; the four of get_or_create and the INSERT, in a savepoint.
        with self.assertNumQueries(9):
            response = self.client.post("/books/add/", {"author": "Bea", "title": "Second"})
        assert response.status_code == 201

    def test_login_page(self):
        response = self.client.post("/login/", {"username": "reader", "password": "secret"})
        self.assertRedirects(response, "/books/")

    def test_login_and_logout(self):
        assert self.client.login(username="reader", password="secret")
        assert self.client.get(f"/books/{self.book.pk}/").status_code == 200
        self.client.logout()
        self.assertRedirects(
            self.client.get(f"/books/{self.book.pk}/"),
            f"/login/?next=/books/{self.book.pk}/",
            fetch_redirect_response=False,
        )

    def test_wrong_password(self):
        with self.assertNumQueries(1):
            assert authenticate(username="reader", password="wrong") is None
        assert not self.client.login(username="reader", password="wrong")

    def test_not_found(self):
        with self.assertNumQueries(0):
            assert self.client.get("/nowhere/").status_code == 404

    def test_broken_view(self):
        with self.assertRaisesMessage(ValueError, "broken"):
            self.client.get("/broken/")
        self.client.raise_request_exception = False
        with self.assertLogs("django.request", "ERROR"):
            assert self.client.get("/broken/").status_code == 500

    def test_streamed_response(self):
        response = self.client.get("/books/export/")
        with self.assertNumQueries(1):
            assert b"".join(response.streaming_content) == b"Notes\n"

    def test_upload(self):
        from django.core.files.uploadedfile import SimpleUploadedFile

        upload = SimpleUploadedFile("a.txt", b"content")
        assert self.client.post("/hello/", {"file": upload}).status_code == 200

    def test_json_body(self):
        response = self.client.post("/hello/", {"a": [1]}, content_type="application/json")
        assert response.status_code == 200

    def test_nobody_else_takes_a_uuid(self):
        wanted = uuid.UUID(int=5)
        with mock.patch("uuid.uuid4", side_effect=[wanted]):
            assert self.client.post("/ticket/").content.decode() == str(wanted)

    def test_nobody_else_looks_at_the_clock(self):
        with (
            mock.patch("time.time", side_effect=AssertionError),
            mock.patch("time.perf_counter", side_effect=AssertionError),
            self.assertNoLogs(),
        ):
            Note.objects.create(text="timeless")
            assert self.client.post("/hello/").status_code == 200

    def test_admin_pages(self):
        admin = User.objects.create_superuser("admin", password="secret")
        self.client.force_login(admin)
        for path in ("", "add/", f"{self.book.pk}/change/", f"{self.book.pk}/delete/"):
            assert self.client.get(f"/admin/books/book/{path}").status_code == 200
        response = self.client.post(f"/admin/books/book/{self.book.pk}/delete/", {"post": "yes"})
        self.assertRedirects(response, "/admin/books/book/")
        assert not Book.objects.exists()

    async def test_async_view(self):
        response = await self.async_client.get("/books/async/")
        assert response.json() == {"books": ["Notes"]}

    async def test_async_save(self):
        author = await Author.objects.acreate(name="Eve")
        author.name = "Eva"
        await author.asave()
        await author.adelete()
        assert author.pk is None

    def test_nothing_is_logged(self):
        with self.assertNoLogs(level="INFO"):
            self.client.force_login(self.reader)
            self.client.post("/books/add/", {"author": "Ada", "title": "More"})
