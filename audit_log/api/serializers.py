"""What the API shows, field by field. Nothing here writes."""

# Fields may be called `data` or `label`: DRF's metaclass takes them out of the class.
# mypy: disable-error-code="assignment"

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from audit_log.events import format_time
from audit_log.models import Record

if TYPE_CHECKING:
    _Record = serializers.Serializer[Record]
    _Any = serializers.Serializer[Any]
else:
    _Record = _Any = serializers.Serializer

_OBJECT = {"type": "object", "additionalProperties": {}}
_PAIR = {"type": "array", "items": {}, "minItems": 2, "maxItems": 2}
_PAIRS = {"type": "object", "additionalProperties": _PAIR}


class Moment(serializers.DateTimeField):
    """`YYYY-MM-DDTHH:MM:SS.ffffffZ`, whatever formats and time zone the project shows."""

    def to_representation(self, value: datetime) -> str:
        return format_time(value)


def text(source: str | None = None, **options: Any) -> serializers.CharField:
    """A text that may be missing."""
    return serializers.CharField(source=source, allow_null=True, **options)


def number(source: str | None = None) -> serializers.IntegerField:
    """A number that may be missing."""
    return serializers.IntegerField(source=source, allow_null=True)


@extend_schema_field({**_PAIRS, "description": "{field: [old, new]}"})
class Pairs(serializers.JSONField):
    """Changes; empty where there are none, or where somebody put something else there."""

    def get_attribute(self, instance: Any) -> Any:
        found = super().get_attribute(instance)
        return found if isinstance(found, dict) else {}


@extend_schema_field(_OBJECT)
class Values(Pairs):
    """Values by name."""


class ActorSerializer(_Record):
    """Who did it."""

    type = text("actor_type")
    id = text("actor_id")
    label = serializers.SerializerMethodField()
    via = text("actor_via", help_text="Impersonator, API key or parent task.")

    def get_label(self, row: Record) -> str | None:
        """By the labels of the page, opened together."""
        label: str | None = self.context["labels"][row.pk][0]
        return label


class TargetSerializer(_Record):
    """What it was done to."""

    type = text("target_type")
    id = text("target_id")
    label = serializers.SerializerMethodField()

    def get_label(self, row: Record) -> str | None:
        """By the labels of the page, opened together."""
        label: str | None = self.context["labels"][row.pk][1]
        return label


class RequestSerializer(_Record):
    """The HTTP request it happened in."""

    id = text("request_id")
    method = text()
    route = text()
    path = text()
    status = number()
    duration_ms = number()


class RecordSerializer(_Record):
    """The open envelope of a record, its open changes, and both labels."""

    id = serializers.UUIDField()
    version = serializers.IntegerField()
    stream = serializers.CharField()
    sequence = serializers.IntegerField()
    occurred_at = Moment()
    recorded_at = Moment()
    action = serializers.CharField()
    outcome = serializers.CharField()
    actor = ActorSerializer(source="*")
    target = TargetSerializer(source="*")
    tenant = text()
    request = RequestSerializer(source="*")
    trace_id = text()
    parent_id = text()
    session = text("session_token", help_text="Equal for what one session did.")
    source = serializers.CharField()
    service = text()
    emitter = text()
    emitter_seq = number()
    affected = number()
    changed_fields = serializers.ListField(
        child=serializers.CharField(), allow_null=True, help_text="All of them, sealed ones too."
    )
    changes = Pairs()
    data = Values()
    redactions = serializers.ListField(
        child=serializers.DictField(child=serializers.CharField()),
        allow_null=True,
        help_text="What was masked or cut, and by which rule.",
    )
    has_sealed = serializers.SerializerMethodField(help_text="Whether `contents/` holds more.")

    def get_has_sealed(self, row: Record) -> bool:
        """Whether any part is sealed."""
        return bool(row.sealed_actor or row.sealed_data)


class ReasonSerializer(_Any):
    """Why somebody opens the contents."""

    reason = serializers.CharField(required=False, allow_blank=True, max_length=500)


class OpenedActorSerializer(_Any):
    """What is known of the actor."""

    label = text()
    email = text()
    ip = text()
    user_agent = text()


class OpenedRequestSerializer(_Any):
    """What was sent."""

    query = text()
    body = serializers.JSONField(allow_null=True)


class ContentsSerializer(_Any):
    """A record's contents, opened."""

    changes = Pairs()
    labels = Values(help_text="Choices and foreign keys as people read them.")
    target_label = text()
    data = Values()
    actor = OpenedActorSerializer()
    request = OpenedRequestSerializer()
    reason = text()
    closed = serializers.ListField(
        child=serializers.CharField(), help_text="Parts that cannot be opened, and why."
    )


class HeadCheckpointSerializer(_Any):
    """A signed tree head."""

    size = serializers.IntegerField()
    root = serializers.CharField(help_text="SHA-256, hexadecimal.")
    created_at = Moment()


class CheckpointSerializer(HeadCheckpointSerializer):
    """The same with its note."""

    stream = serializers.CharField()
    note = serializers.CharField(help_text="A C2SP signed note.")


class StreamSerializer(_Any):
    """One log, and how far it is signed."""

    name = serializers.CharField(source="head.name")
    size = serializers.IntegerField(source="head.size")
    recorded_at = Moment(source="head.recorded_at", allow_null=True)
    purged = serializers.IntegerField(
        source="head.purged", help_text="The first record that retention has left."
    )
    purged_through = Moment(source="head.purged_through", allow_null=True)
    checkpoint = HeadCheckpointSerializer(allow_null=True)


class PartSerializer(_Any):
    """One file of the archive."""

    stream = serializers.CharField()
    day = serializers.DateField(format="iso-8601")
    first = serializers.IntegerField()
    last = serializers.IntegerField()
    count = serializers.IntegerField()
    min_time = Moment()
    max_time = Moment()
    state = serializers.CharField()
    store = serializers.CharField()
    key = serializers.CharField()
    version_id = serializers.CharField()
    sha256 = serializers.CharField()
    size = serializers.IntegerField(help_text="Bytes.")
    checkpoint_size = serializers.IntegerField()
    manifest_sha256 = serializers.CharField()
    error = serializers.CharField()
    planned_at = Moment()
    verified_at = Moment(allow_null=True)
    purgeable_at = Moment(allow_null=True)
    purged_at = Moment(allow_null=True)


class AlertSerializer(_Any):
    """A rule that reached its threshold."""

    id = serializers.IntegerField()
    rule = serializers.CharField()
    group = serializers.CharField()
    measured = serializers.IntegerField()
    threshold = serializers.IntegerField()
    window_start = Moment()
    window_end = Moment()
    stream = serializers.CharField()
    sequence = serializers.IntegerField(help_text="The record that made it fire.")
    fired_at = Moment()
    channels = Values()


class BucketSerializer(_Any):
    """The records of one interval."""

    start = Moment()
    total = serializers.IntegerField()
    counts = serializers.DictField(child=serializers.IntegerField())


class CountsSerializer(_Any):
    """Records by interval."""

    interval = serializers.CharField()
    group_by = serializers.CharField()
    since = Moment()
    until = Moment()
    buckets = BucketSerializer(many=True)


class PercentilesSerializer(_Any):
    """At most so many ms; null is more than the slowest class."""

    p50 = number()
    p95 = number()
    p99 = number()


class RouteSerializer(_Any):
    """The requests of one route."""

    route = serializers.CharField()
    requests = serializers.IntegerField()
    errors = serializers.IntegerField(help_text="Answers of 500 and above.")
    latency_ms = PercentilesSerializer(source="percentiles")


class RoutesSerializer(_Any):
    """Routes, the busiest first."""

    since = Moment()
    until = Moment()
    more = serializers.BooleanField(help_text="Whether there are routes that are not shown.")
    routes = RouteSerializer(many=True)


class StreamHealthSerializer(_Any):
    """How far a stream is signed."""

    name = serializers.CharField()
    size = serializers.IntegerField()
    signed = serializers.IntegerField()
    signed_at = Moment(allow_null=True)
    unsigned_seconds = serializers.FloatField(allow_null=True)


class HealthSerializer(_Any):
    """How the log is doing."""

    healthy = serializers.BooleanField()
    troubles = serializers.ListField(child=serializers.CharField())
    outbox_batches = serializers.IntegerField()
    outbox_events = serializers.IntegerField()
    outbox_oldest_seconds = serializers.FloatField(allow_null=True)
    outbox_failing = serializers.IntegerField()
    parked = serializers.IntegerField()
    spool_files = serializers.IntegerField()
    streams = StreamHealthSerializer(many=True)
    losses = serializers.DictField(child=serializers.IntegerField())
