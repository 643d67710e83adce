# mypy: ignore-errors
import threading

from django.test import AsyncClient, RequestFactory, SimpleTestCase
from django.urls import reverse

from books.models import Book, Note


class SimpleTests(SimpleTestCase):
    def test_get(self):
        response = self.client.get("/hello/")
        assert response.content == b"hello, GET"
        assert not response.cookies

    def test_post(self):
        assert self.client.post("/hello/", {"a": "b"}).status_code == 200

    def test_many_requests(self):
        for n in range(50):
            assert self.client.put(f"/hello/?n={n}").status_code == 200

    def test_cookie_of_a_session_that_nobody_reads(self):
        self.client.cookies["sessionid"] = "0123456789abcdef0123456789abcdef"
        assert self.client.get("/hello/").status_code == 200

    def test_not_found(self):
        assert self.client.get("/nowhere/").status_code == 404

    def test_login_required(self):
        assert self.client.get("/books/1/").status_code == 302

    def test_unsaved_instances(self):
        book = Book(title="Notes")
        assert str(book) == "Notes"
        assert Note(text="a") != Note(text="a")

    def test_factory(self):
        from books.views import hello

        assert hello(RequestFactory().get("/")).status_code == 200

    def test_urls(self):
        assert reverse("login") == "/login/"

    async def test_async_client(self):
        response = await AsyncClient().post("/hello/")
        assert response.status_code == 200

    def test_threads(self):
        self.client.delete("/hello/")
        assert "audit_log.nudge" not in [thread.name for thread in threading.enumerate()]
