# mypy: ignore-errors
from django.db import models


class Thing(models.Model):
    name = models.CharField(max_length=50)
    parts = models.ManyToManyField("self", symmetrical=True)

    def __str__(self):
        return self.name
