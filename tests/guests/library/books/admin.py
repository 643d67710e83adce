# mypy: ignore-errors
from django.contrib import admin

from books.models import Author, Book, Copy, Tag

admin.site.register([Author, Tag, Copy])


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    list_display = ["title", "author", "price"]
    list_select_related = ["author"]
