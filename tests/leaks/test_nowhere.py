"""Five hundred secrets, through every channel the app has, are found nowhere."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from audit_log.models import Record
from audit_log.testing import leaks
from tests.leaks import senders

pytestmark = [pytest.mark.django_db(transaction=True)]


def test_secrets_sent_through_every_channel_are_nowhere(
    settings: Any, monkeypatch: pytest.MonkeyPatch
):
    """H1, H3, secrets_sweep"""
    with leaks.watch() as watch:
        client = Client(raise_request_exception=False)
        for send in senders.SENDERS:
            send(watch)
        senders.folded_bulk(watch, settings)
        senders.accounts(watch, client)
        senders.paths(watch, client)
        leaks.send_requests(watch, client, "/create/")
        leaks.send_records(watch)
        senders.spooled(watch, monkeypatch)
        senders.parked(watch, monkeypatch)
        assert len(watch.secrets) >= 500
        watch.assert_nowhere()
    assert Record.objects.count() >= 500
