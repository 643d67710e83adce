# mypy: ignore-errors
"""What is there of us in a process that saves and answers: hooks, queries, threads, rows."""

import json
import os
import threading

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.auth.signals import user_logged_in  # noqa: E402
from django.db import connections, models  # noqa: E402
from django.db.models.deletion import Collector  # noqa: E402
from django.db.models.fields import related_descriptors  # noqa: E402
from django.db.models.sql import DeleteQuery  # noqa: E402
from django.test import Client  # noqa: E402

import audit_log  # noqa: E402
from books.models import Author, Book, Note, Tag  # noqa: E402

connection = connections["default"]
executed = []


def note(execute, sql, params, many, context):
    executed.append(sql)
    return execute(sql, params, many, context)


book = Book.objects.create(title="Notes", author=Author.objects.create(name="Ada"))
book.tags.add(Tag.objects.create(name="a"))
user = User.objects.create_user("reader", password="secret")
client = Client()
assert client.login(username="reader", password="secret")
assert client.post("/books/add/", {"author": "Ada", "title": "More"}).status_code == 201
with connection.execute_wrapper(note):
    client.post("/hello/")
    audit_log.record("book.read", target=book)
    with audit_log.suspended():
        Note.objects.create(text="a")

hooked = [
    owner.__name__ + "." + name
    for owner in (models.Model, models.QuerySet, models.Manager, Collector, DeleteQuery)
    for name, value in vars(owner).items()
    if getattr(getattr(value, "__func__", value), "__module__", "").startswith("audit_log")
]
hooked += [
    name
    for name, value in vars(related_descriptors).items()
    if getattr(value, "__module__", "").startswith("audit_log")
]
receivers = [str(entry[0]) for entry in user_logged_in.receivers]
print(
    json.dumps(
        {
            "hooks": hooked,
            # What the instance has in place of a method of its class.
            "connection": [
                name for name in vars(connection) if callable(getattr(type(connection), name, None))
            ],
            "receivers": [name for name in receivers if "audit_log" in name],
            "executed": executed,
            "threads": [thread.name for thread in threading.enumerate()],
        }
    )
)
