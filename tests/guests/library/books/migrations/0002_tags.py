# mypy: ignore-errors
from django.db import migrations


def make_tags(apps, schema_editor):
    tags = apps.get_model("books", "Tag")
    tags.objects.using(schema_editor.connection.alias).create(name="new")


class Migration(migrations.Migration):
    dependencies = [("books", "0001_initial")]

    operations = [migrations.RunPython(make_tags, migrations.RunPython.noop)]
