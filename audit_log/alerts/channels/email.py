"""A mail to the rule's `to`, or to Django's ADMINS, by whatever Django sends mail with."""

from __future__ import annotations

import shlex
from typing import Any, Final

from django.core import mail
from django.urls import reverse

from audit_log.alerts.wording import details, headline, moment, one_line, search_text
from audit_log.conf import admins, get_settings
from audit_log.models import Alert

# Django waits for ever unless EMAIL_TIMEOUT is set.
_TIMEOUT_SECONDS: Final = 10.0
_MAX_SUBJECT: Final = 200


def send(alert: Alert) -> None:
    """Send it. Raises what the mail server says, and ValueError without a recipient."""
    message = _message(alert, recipients(alert))
    if _mailer().send_messages([message]) == 0:
        raise OSError("The mail backend sent nothing, and did not say why.")


def recipients(alert: Alert) -> tuple[str, ...]:
    """Who gets it. Raises ValueError if there is nobody."""
    rules = {rule.name: rule for rule in get_settings().alerts}
    listed = rules[alert.rule].to if alert.rule in rules else ()
    found = listed or admins()
    if not found:
        raise ValueError(f'There is no recipient: neither "to" of {alert.rule!r} nor ADMINS.')
    return found


def _mailer() -> Any:
    mailers: Any = getattr(mail, "mailers", None)  # from Django 6.1
    mailer: Any = mail.get_connection() if mailers is None else mailers.default
    if getattr(mailer, "timeout", _TIMEOUT_SECONDS) is None:
        mailer.timeout = _TIMEOUT_SECONDS
    return mailer


def _message(alert: Alert, to: tuple[str, ...]) -> mail.EmailMessage:
    service = get_settings().service
    message = mail.EmailMessage(
        f"[{service}] Alert {headline(alert)}"[:_MAX_SUBJECT], _body(alert, service), to=list(to)
    )
    message.extra_headers = {
        "Message-ID": _message_id(alert, message.from_email),
        "Auto-Submitted": "auto-generated",  # RFC 3834: no "out of office" in return
    }
    return message


def _message_id(alert: Alert, sender: str) -> str:
    """The same each time, so that a mailbox can tell that it has it already."""
    domain = sender.rpartition("@")[2].strip("<> ") or "localhost"
    return f"<audit-log.alert.{alert.pk}.{alert.fired_at:%Y%m%d%H%M%S%f}@{domain}>"


def _body(alert: Alert, service: str) -> str:
    """Nothing but what the log stores open: ids, never labels."""
    lines = [
        f"An alert of the audit log of {service} has fired.",
        "",
        headline(alert),
        details(alert),
        f"Fired at {moment(alert.fired_at)}.",
        "",
        f"Records: manage.py audit_log search {one_line(shlex.quote(search_text(alert)))}",
    ]
    if page := _page(alert):
        lines.append(f"Admin: {page}")
    return "\n".join([*lines, "", "No further mail comes for what happens until the window ends."])


def _page(alert: Alert) -> str:
    try:
        return reverse("admin:audit_log_alert_change", args=[alert.pk])
    except Exception:  # noqa: BLE001 - no admin, or URLs that this process cannot import
        return ""
