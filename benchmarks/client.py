"""A logged-in browser that calls the WSGI handler in this process."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings as django_settings  # noqa: TID251 - of the measured project
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIHandler
from django.middleware.csrf import _get_new_csrf_string

USER_ID: Final = 918273645  # found again in what a peer stored
USER_NAME: Final = "benjamina"
ADDRESS: Final = "203.0.113.77"
AGENT: Final = "benchmark-browser/1.0"


class Client:
    """Requests with the cookies of one session, which is in the database."""

    def __init__(self) -> None:
        user = User.objects.create(pk=USER_ID, username=USER_NAME)
        session = import_module(django_settings.SESSION_ENGINE).SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.create()
        self._token = _get_new_csrf_string()
        self._cookies = f"sessionid={session.session_key}; csrftoken={self._token}"
        self._handler = WSGIHandler()

    def get(self, path: str, *, expect: int = 200) -> None:
        """One GET. Raises RuntimeError when the answer is another than expected."""
        self._call("GET", path, b"", expect)

    def post(self, path: str, form: dict[str, str], *, expect: int = 201) -> None:
        """One POST of a form."""
        self._call("POST", path, urlencode(form).encode(), expect)

    def _call(self, method: str, path: str, body: bytes, expect: int) -> None:
        statuses: list[str] = []
        response = self._handler(
            self._environ(method, path, body),
            lambda status, headers, exc_info=None: statuses.append(status),  # type: ignore[arg-type]
        )
        content = b"".join(response)
        response.close()  # what a server does: request_finished is sent here
        if not statuses[0].startswith(str(expect)):
            raise RuntimeError(f"{method} {path}: {statuses[0]} {content[:500]!r}")

    def _environ(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        return {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": ADDRESS,
            "HTTP_USER_AGENT": AGENT,
            "HTTP_COOKIE": self._cookies,
            "HTTP_X_CSRFTOKEN": self._token,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
