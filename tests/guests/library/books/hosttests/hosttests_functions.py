# mypy: ignore-errors
import pytest
from django.db import transaction

from books.models import Author, Book, Note


def test_request_without_database(client):
    assert client.get("/hello/").status_code == 200
    assert client.post("/hello/").status_code == 200


def test_unsaved():
    assert str(Author(name="Ada")) == "Ada"


def test_queries(db, django_assert_num_queries):
    with django_assert_num_queries(1):
        author = Author.objects.create(name="Ada")
    with django_assert_num_queries(1):
        author.save()


def test_callbacks(db, client, django_user_model, django_capture_on_commit_callbacks):
    client.force_login(django_user_model.objects.create_user("reader"))
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        client.post("/books/add/", {"author": "Ada", "title": "Notes"})
    assert len(callbacks) == 1
    assert Note.objects.count() == 1


def test_admin_client(admin_client):
    assert admin_client.get("/admin/books/author/").status_code == 200


def test_transactional(transactional_db, django_assert_num_queries):
    with django_assert_num_queries(1):
        Author.objects.create(name="Ada")
    seen = []
    with transaction.atomic():
        Author.objects.create(name="Bea")
        transaction.on_commit(lambda: seen.append(Author.objects.count()))
    assert seen == [2]


@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_serialized_rollback():
    Note.objects.create(text="a")
    assert Note.objects.count() == 1


@pytest.mark.django_db(reset_sequences=True, transaction=True)
def test_reset_sequences():
    assert Note.objects.create(text="a").pk == 1


def test_live_server(live_server):
    from urllib.request import urlopen

    Book.objects.create(title="Notes", author=Author.objects.create(name="Ada"))
    with urlopen(f"{live_server.url}/books/") as response:
        assert b"Notes" in response.read()
