"""Which models are audited, and what their own code asked for.

All models are, except bookkeeping. Options come from `audited()`, `register()` or the setting
`MODELS`; `privacy.policies` turns them into a policy for each field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.apps import apps

from audit_log import conf
from audit_log.exceptions import ConfigurationError

if TYPE_CHECKING:
    from django.db.models import Model

_M = TypeVar("_M", bound="type[Model]")
Masker = Callable[[Any], Any]
Masked = Iterable[str] | Mapping[str, Masker | None]

# Not business data: Django's own bookkeeping, credentials that live in a table, and the counters
# of well-known apps that change with every request or task.
NOT_AUDITED: Final = (
    "audit_log.*",
    "admin.logentry",
    "contenttypes.*",
    "migrations.*",
    "sessions.*",
    "authtoken.*",
    "token_blacklist.*",
    "otp_static.*",
    "otp_totp.*",
    "oauth2_provider.*token",
    "oauth2_provider.grant",
    "knox.*",
    "django_celery_results.*",
    "django_celery_beat.*",
    "axes.*",
)
Rule = str | Callable[[Any], Any]
Subject = Rule | None
BEFORE: Final = ("loaded", "database")
CAPTURE: Final = ("orm", "triggers")


@dataclass(frozen=True, slots=True)
class Options:
    """What a model asked for. Names are field names.

    `subject` identifies the person whose data this is: the name of a field or property, a path
    ("account.owner_id"), or a callable that is given the instance.
    `before` says where old values come from: "loaded" (no query) or "database" (one, exact).
    `capture` says who sees the changes: "orm", our hooks in Django, or on PostgreSQL "triggers".
    `maskers` are those of the masked fields that have one of their own, by name.
    """

    open: frozenset[str] = frozenset()
    sealed: frozenset[str] = frozenset()
    masked: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    subject: Subject = None
    before: str = "loaded"
    capture: str = "orm"
    maskers: tuple[tuple[str, Masker], ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a model is audited (`options` is None when it is not), and why.

    `rule` is "register" or "unregister" (in code: `named` is the model that was), "MODELS" or
    "EXCLUDE_MODELS" (`named` is the pattern; None: MODELS names it nowhere), "bookkeeping" (`named`
    is the entry of NOT_AUDITED), "through", "unmanaged", "historical" or "abstract".
    """

    options: Options | None
    rule: str
    named: str | None = None


_DEFAULT: Final = Options()
OPTIONS: Final = tuple(name for name in Options.__dataclass_fields__ if name != "maskers")
"""What `audited()` takes."""
_registered: dict[type[Model], Options | None] = {}
_resolved: dict[type[Model], Options | None] = {}


@conf.on_change
def _forget() -> None:
    _resolved.clear()


def _options(raw: dict[str, Any]) -> Options:
    unknown = set(raw) - set(OPTIONS)
    if unknown:
        raise ConfigurationError(
            f"audited() has no option {', '.join(sorted(unknown))}. It has: {', '.join(OPTIONS)}."
        )
    names = {key: frozenset(raw.get(key, ())) for key in ("open", "sealed", "masked", "excluded")}
    before = raw.get("before", "loaded")
    if before not in BEFORE:
        raise ConfigurationError(f"before must be one of {', '.join(BEFORE)}, not {before!r}.")
    capture = raw.get("capture", "orm")
    if capture not in CAPTURE:
        raise ConfigurationError(f"capture must be one of {', '.join(CAPTURE)}, not {capture!r}.")
    subject = raw.get("subject")
    if subject is not None and not isinstance(subject, str) and not callable(subject):
        raise ConfigurationError(
            "subject must name a field, be a path such as 'account.owner_id', or a callable that "
            f"is given the instance, not {subject!r}."
        )
    return Options(
        **names,
        subject=subject,
        before=before,
        capture=capture,
        maskers=_maskers(raw.get("masked", ())),
    )


def _maskers(masked: Masked) -> tuple[tuple[str, Masker], ...]:
    """Those of `masked={"phone": last_two, "note": None}`, in the order of the names."""
    if not isinstance(masked, Mapping):
        return ()
    for name, masker in masked.items():
        if masker is not None and not callable(masker):
            raise ConfigurationError(
                f"masked must give {name!r} a callable that makes text of a value, or None for the "
                f"plain mask, not {masker!r}."
            )
    own = [(name, masker) for name, masker in masked.items() if masker is not None]
    return tuple(sorted(own, key=lambda item: item[0]))


def register(  # noqa: PLR0913 - one keyword for each policy
    model: type[Model],
    *,
    open: Iterable[str] = (),  # noqa: A002 - the policy's name
    sealed: Iterable[str] = (),
    masked: Masked = (),
    excluded: Iterable[str] = (),
    subject: Subject = None,
    before: str = "loaded",
    capture: str = "orm",
) -> None:
    """Audit `model`, with these policies for its fields. Raises ConfigurationError.

    `masked` may be {field: masker}: text that the masker makes of a value stands for it.
    Field names are checked by a system check, once all models are loaded.
    """
    _registered[model] = _options(
        {
            "open": open,
            "sealed": sealed,
            "masked": masked,
            "excluded": excluded,
            "subject": subject,
            "before": before,
            "capture": capture,
        }
    )
    conf.forget()


def unregister(model: type[Model]) -> None:
    """Do not audit `model`, whatever the settings say."""
    _registered[model] = None
    conf.forget()


def audited(**options: Any) -> Callable[[_M], _M]:
    """Class decorator for `register`: `@audited(open=["amount"], masked=["card_number"])`."""

    def decorate(model: _M) -> _M:
        register(model, **options)
        return model

    return decorate


def options_for(model: type[Model]) -> Options | None:
    """The options of a model, or None when it is not audited. Cached; a proxy is its model."""
    try:
        return _resolved[model]
    except KeyError:
        options = _resolved[model] = decide(model).options
        return options


def audited_models() -> list[type[Model]]:
    """Every installed model that is audited."""
    return [model for model in apps.get_models() if options_for(model) is not None]


def decide(model: type[Model]) -> Decision:
    """Whether a model is audited, and by which rule. `options_for` remembers the answer."""
    concrete = model._meta.concrete_model
    if concrete is None:
        return Decision(None, "abstract")
    if concrete in _registered:
        return _by_code(_registered[concrete], concrete)
    for base in concrete.__mro__[1:]:
        # An abstract base hands its registration down to the models made from it.
        if base in _registered and base._meta.abstract:
            return _by_code(_registered[base], base)
    return _by_settings(concrete)


def _by_code(options: Options | None, named: type[Model]) -> Decision:
    return Decision(options, "unregister" if options is None else "register", named._meta.label)


def _by_settings(model: type[Model]) -> Decision:
    meta = model._meta
    if meta.apps is not apps:
        return Decision(None, "historical")
    if meta.auto_created:
        # The rows of an automatic through table are recorded as changes of the many-to-many field.
        return Decision(None, "through")
    if pattern := _matching(meta.label_lower, conf.get_settings().exclude_models):
        return Decision(None, "EXCLUDE_MODELS", pattern)
    if not meta.managed:
        return Decision(None, "unmanaged")  # other people's tables
    return _by_models(meta.label_lower)


def _by_models(label: str) -> Decision:
    settings = conf.get_settings()
    pattern = _matching(label, settings.models)
    if pattern is None:
        return Decision(None, "MODELS")
    options = {key.lower(): raw for key, raw in settings.model_options.items()}
    if key := _matching(label, options):
        return Decision(_options(dict(options[key])), "MODELS", key)
    bookkeeping = _matching(label, NOT_AUDITED)
    if bookkeeping and label not in {key.lower() for key in settings.models}:
        return Decision(None, "bookkeeping", bookkeeping)
    return Decision(_DEFAULT, "MODELS", pattern)


def _matching(label: str, patterns: Iterable[str]) -> str | None:
    """The first of `patterns` that names the model."""
    return next((each for each in patterns if fnmatchcase(label, each.lower())), None)


def matches_any(pattern: str, labels: Iterable[str]) -> bool:
    """Whether a pattern of the settings names anything at all."""
    return any(fnmatchcase(label, pattern.lower()) for label in labels)
