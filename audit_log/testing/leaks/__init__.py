"""A leak alarm: secrets that are sent through your project are nowhere in the log.

    with leaks.watch() as watch:
        payment.note = f"paid with {watch.secret('card', through='a note')}"
        payment.save()
        watch.assert_nowhere()

The places it looks into are functions of this module; `watch.look_in(leaks.redis(url))` adds one.
"""

from audit_log.testing.leaks.archives import archive
from audit_log.testing.leaks.brokers import queues, redis
from audit_log.testing.leaks.channels import send_records, send_requests
from audit_log.testing.leaks.logs import logs
from audit_log.testing.leaks.pages import admin, api, export, search
from audit_log.testing.leaks.places import Place, files, mails, opened, spool, tables, values
from audit_log.testing.leaks.secrets import BY_FORM, NAMES, PERSONAL, Promise, Secret
from audit_log.testing.leaks.watching import Leak, Watch, watch

__all__ = [
    "BY_FORM",
    "NAMES",
    "PERSONAL",
    "Leak",
    "Place",
    "Promise",
    "Secret",
    "Watch",
    "admin",
    "api",
    "archive",
    "export",
    "files",
    "logs",
    "mails",
    "opened",
    "queues",
    "redis",
    "search",
    "send_records",
    "send_requests",
    "spool",
    "tables",
    "values",
    "watch",
]
