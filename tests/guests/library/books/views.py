# mypy: ignore-errors
import os
import uuid

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt

from books.models import Author, Book, Note


def hello(request):
    """Neither database nor session."""
    return HttpResponse(f"hello, {request.method}")


def book_list(request):
    return JsonResponse({"books": list(Book.objects.order_by("title").values("title", "price"))})


async def book_list_async(request):
    return JsonResponse({"books": [book.title async for book in Book.objects.order_by("title")]})


@login_required
def book_detail(request, pk):
    book = get_object_or_404(Book.objects.select_related("author"), pk=pk)
    return JsonResponse({"title": book.title, "reader": request.user.get_username()})


@login_required
def book_add(request):
    with transaction.atomic():
        author, _ = Author.objects.get_or_create(name=request.POST["author"])
        book = Book.objects.create(title=request.POST["title"], author=author)
        transaction.on_commit(lambda: Note.objects.create(text=f"new: {book.title}"))
    return JsonResponse({"pk": book.pk}, status=201)


def book_export(request):
    def lines():
        for book in Book.objects.order_by("title"):
            yield f"{book.title}\n"

    return StreamingHttpResponse(lines())


def broken(request):
    Note.objects.create(text="before the fall")
    raise ValueError("broken")


@csrf_exempt
def ticket(request):
    return HttpResponse(str(uuid.uuid4()))


@csrf_exempt
def take_notes(request):
    """Two notes in two transactions, and one that a savepoint takes back."""
    with transaction.atomic():
        first = Note.objects.create(text="in a transaction")
        with transaction.atomic():
            Note.objects.create(text="never")
            transaction.set_rollback(True)
    second = Note.objects.create(text="by itself")
    return JsonResponse({"notes": [first.pk, second.pk], "process": os.getpid()}, status=201)
