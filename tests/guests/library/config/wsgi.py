# mypy: ignore-errors
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
application = get_wsgi_application()

if os.environ.get("GUEST_EARLY"):
    # In the process that forks the workers: they must not take over what it has begun.
    from django.db import connections

    import audit_log

    audit_log.record("site.loaded")
    connections.close_all()
