# mypy: ignore-errors
"""Where GUEST_DATA_MIGRATION is set, it writes rows by the models as they are now.

The manual advises against it and projects do it, in the same run as our first migration: after it
("after") or before it ("before").
"""

import os

from django.db import migrations

WHEN = os.environ.get("GUEST_DATA_MIGRATION")


def take_notes(apps, schema_editor):
    from books.models import Note

    if WHEN:
        Note.objects.using(schema_editor.connection.alias).create(text="first")
        for note in Note.objects.all():
            note.text = "changed"
            note.save()


class Migration(migrations.Migration):
    dependencies = [("books", "0002_tags")]
    if WHEN == "after":
        dependencies += [("audit_log", "0001_initial")]
    if WHEN == "before":
        run_before = [("audit_log", "0001_initial")]

    operations = [migrations.RunPython(take_notes, migrations.RunPython.noop)]
