# mypy: ignore-errors
from django.conf import settings
from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self):
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=50, unique=True)

    def __str__(self):
        return self.name


class Book(models.Model):
    title = models.CharField(max_length=200)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    details = models.JSONField(default=dict, blank=True)
    tags = models.ManyToManyField(Tag, related_name="books", blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self):
        return self.title


class Copy(models.Model):
    book = models.ForeignKey(Book, on_delete=models.CASCADE, related_name="copies")
    barcode = models.CharField(max_length=20, unique=True)

    def __str__(self):
        return f"{self.book.title} by {self.book.author} ({self.barcode})"


class Loan(models.Model):
    copy = models.ForeignKey(Copy, on_delete=models.CASCADE, related_name="loans")
    reader = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    due = models.DateField(null=True)

    def __str__(self):
        return f"{self.copy} to {self.reader}"


class Note(models.Model):
    """Nothing refers to it, so Django deletes it without looking."""

    text = models.TextField()

    def __str__(self):
        return self.text[:20]
