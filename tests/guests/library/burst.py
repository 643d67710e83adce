# mypy: ignore-errors
"""A process as a site has many: 200 saves and 20 requests, and then it exits."""

import json
import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.test import Client  # noqa: E402

from books.models import Note  # noqa: E402

for number in range(200):
    Note.objects.create(text=str(number))
client = Client()
for _ in range(20):
    assert client.post("/hello/").status_code == 200
print(json.dumps({"notes": Note.objects.count()}))
