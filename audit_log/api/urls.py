"""`path("audit/", include("audit_log.api.urls"))`: everything under `audit/v1/`."""

from django.urls import include, path

from audit_log.api import ledger, records, statistics
from audit_log.api.schema import SchemaView

app_name = "audit_log_api"

v1 = [
    path("records/", records.RecordList.as_view(), name="records"),
    path("records/<uuid:id>/", records.RecordDetail.as_view(), name="record"),
    path("records/<uuid:id>/contents/", records.RecordContents.as_view(), name="contents"),
    path("targets/<str:type>/<path:id>/", records.TargetHistory.as_view(), name="target"),
    path("streams/", ledger.StreamList.as_view(), name="streams"),
    path("checkpoints/", ledger.CheckpointList.as_view(), name="checkpoints"),
    path("parts/", ledger.PartList.as_view(), name="parts"),
    path("alerts/", ledger.AlertList.as_view(), name="alerts"),
    path("statistics/", statistics.Counts.as_view(), name="statistics"),
    path("statistics/routes/", statistics.Routes.as_view(), name="routes"),
    path("health/", statistics.HealthView.as_view(), name="health"),
    path("schema/", SchemaView.as_view(), name="schema"),
]
urlpatterns = [path("v1/", include(v1))]
