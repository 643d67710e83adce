"""Settings of `benchmarks.latency`: those of the relay's benchmark, with a broker and a Celery app.

`AUDIT_LOG_BENCH_PREFIX` is what the run's own keys in Redis begin with.
"""

from __future__ import annotations

import os

from benchmarks.relay_settings import *  # noqa: F403 - the same project
from tests.services import REDIS_URL

CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": os.environ.get("AUDIT_LOG_BENCH_PREFIX", "audit_bench:")
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
