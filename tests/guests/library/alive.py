# mypy: ignore-errors
"""A site that goes on: a note every few milliseconds until the file in argv[1] is there.

Prints when each was committed (monotonic, of this machine) and its key.
"""

import json
import os
import sys
import time

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from django.test import Client  # noqa: E402

from books.models import Note  # noqa: E402

client = Client()
made = []
while not os.path.exists(sys.argv[1]):  # noqa: PTH110
    began = time.monotonic()
    note = Note.objects.create(text="alive")
    made.append((began, note.pk))
    assert client.get("/books/").status_code == 200
    time.sleep(0.005)
print(json.dumps(made))
