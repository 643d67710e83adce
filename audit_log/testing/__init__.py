"""For other people's tests: see what was captured, store it without a worker, look for leaks.

With pytest, `audit_events`, `assert_audited` and `audit_leaks` are fixtures
(`audit_log.pytest_plugin`).
"""

from audit_log.testing import leaks
from audit_log.testing.events import assert_audited, capture_events, flush, relay

__all__ = ["assert_audited", "capture_events", "flush", "leaks", "relay"]
