"""Views that record what they show: a mixin for classes, a decorator for functions.

`rest_framework` is not imported: its views are told from Django's by the methods they have.
"""

from __future__ import annotations

from asyncio import iscoroutine
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, Final, TypeVar

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import ObjectDoesNotExist
from django.db import connections, router
from django.db.models import Model
from django.http import HttpRequest, HttpResponseBase

from audit_log.capture import views
from audit_log.capture.failures import guarded, sheltered
from audit_log.capture.plans import plan_of
from audit_log.recording import outbox

_View = TypeVar("_View", bound=Callable[..., Any])

# Nothing of the object is in what answers these, nor in any other status.
_SILENT: Final = frozenset({"HEAD", "OPTIONS", "TRACE", "DELETE"})
_SHOWING: Final = frozenset({200, 203, 206})


def shows(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Whether whoever asked gets to see what they asked for."""
    return request.method not in _SILENT and response.status_code in _SHOWING


def once_rendered(response: HttpResponseBase, call: Callable[[], None]) -> None:
    """Call when the response has its content: rows may be loaded by its template."""
    add = getattr(response, "add_post_render_callback", None)
    if add is None:
        call()
    else:
        add(lambda _: call())


async def _awaited(
    request: HttpRequest, answer: Awaitable[HttpResponseBase], call: Callable[[], None]
) -> HttpResponseBase:
    response = await answer
    if shows(request, response):
        await sync_to_async(once_rendered)(response, call)
    return response


class ViewedMixin:
    """Records what a class-based view or a view set of rest_framework shows. Name it first.

    `class AccountDetail(ViewedMixin, DetailView)`: what `get_object()` returned is one event; a
    list is one event with the number of its rows and their keys. Only where the answer shows it:
    no HEAD, no redirect, no 403, no 404.
    """

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        shown: list[Any] = []
        for name, notice in _NOTICED.items():
            method = getattr(self, name, None)
            if method is not None:
                # On the instance, so that a method which calls no super() is heard, too.
                setattr(self, name, partial(_noticing, method, notice, shown))
        response: Any = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        call = partial(_note_all, shown)
        if iscoroutine(response):
            return _awaited(request, response, call)
        if shows(request, response):
            once_rendered(response, call)
        return response


def _noticing(
    method: Callable[..., Any],
    notice: Callable[..., Any],
    shown: list[Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    found = method(*args, **kwargs)

    def remember(found: Any) -> Any:
        seen = notice(found, *args, **kwargs)
        if seen is not None and not any(seen is each for each in shown):
            shown.append(seen)
        return found

    async def wait() -> Any:
        return remember(await found)

    return wait() if iscoroutine(found) else remember(found)


def _object(found: Any, *args: Any, **kwargs: Any) -> Any:
    return found if isinstance(found, Model) else None


def _serialized(found: Any, instance: Any = None, *args: Any, **kwargs: Any) -> Any:
    """What rest_framework's `get_serializer(instance, many=True)` was given."""
    return instance if kwargs.get("many") or isinstance(instance, Model) else None


def _listed(found: Any, *args: Any, **kwargs: Any) -> Any:
    """The page that Django's list views give to their template."""
    return found.get("object_list") if isinstance(found, dict) else None


_NOTICED: Final[dict[str, Callable[..., Any]]] = {
    "get_object": _object,
    "get_serializer": _serialized,
    "get_context_data": _listed,
}


def _note_all(shown: list[Any]) -> None:
    for each in shown:
        views.note(each)


def views_of(model: type[Model], /, **lookup: str) -> Callable[[_View], _View]:
    """Decorator of a view that shows one object: `@views_of(Account)`, by the URL argument `pk`.

    Another field or argument is named: `@views_of(Account, iban="number")`. The object is read for
    its label, once the view has answered; where the view has it at hand, `viewed()` costs less.
    Raises TypeError where the view is called without the argument.
    """
    named = lookup or {"pk": "pk"}

    def decorate(view: _View) -> _View:
        if iscoroutinefunction(view):

            @wraps(view)
            async def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                call = partial(_look_up, model, _values(model, named, kwargs))
                return await _awaited(request, view(request, *args, **kwargs), call)

            return answer  # type: ignore[return-value]

        @wraps(view)
        def answer_sync(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            call = partial(_look_up, model, _values(model, named, kwargs))
            response = view(request, *args, **kwargs)
            if shows(request, response):
                once_rendered(response, call)
            return response

        return answer_sync  # type: ignore[return-value]

    return decorate


def _values(model: type[Model], named: dict[str, str], kwargs: dict[str, Any]) -> dict[str, Any]:
    missing = sorted(set(named.values()) - set(kwargs))
    if missing:
        raise TypeError(
            f"views_of({model.__name__}) finds no argument {', '.join(missing)} in the URL."
        )
    return {field: kwargs[name] for field, name in named.items()}


def _look_up(model: type[Model], values: dict[str, Any]) -> None:
    if plan_of(model) is not None:
        guarded("capture_failed", _note_found, model=model, values=values)


def _note_found(*, model: type[Model], values: dict[str, Any]) -> None:
    connection = connections[router.db_for_read(model)]
    with outbox.quiet(connection), sheltered(connection):
        try:
            found = model._base_manager.using(connection.alias).get(**values)
        except ObjectDoesNotExist:
            return  # gone since it was shown, or never there
    views.note(found)
