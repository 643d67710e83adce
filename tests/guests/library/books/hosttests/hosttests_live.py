# mypy: ignore-errors
from urllib.request import Request, urlopen

from django.test import LiveServerTestCase

from books.models import Author, Book, Note


class LiveTests(LiveServerTestCase):
    def test_pages(self):
        author = Author.objects.create(name="Ada")
        Book.objects.create(title="Notes", author=author)
        with urlopen(f"{self.live_server_url}/books/") as response:
            assert b"Notes" in response.read()
        with urlopen(f"{self.live_server_url}/books/export/") as response:
            assert response.read() == b"Notes\n"

    def test_post(self):
        request = Request(f"{self.live_server_url}/ticket/", data=b"a=b")
        with urlopen(request) as response:
            assert len(response.read()) == 36
        assert not Note.objects.exists()
