"""What each member of the bank's staff gets of the log. Prints it as JSON.

`python -m tests.flows.separation` with the settings of example_project and an empty database.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import django
from django.core.management import call_command


def main() -> None:
    django.setup()
    from django.contrib.auth.models import User
    from django.test import Client
    from rest_framework.authtoken.models import Token

    from audit_log.delivery.relay import relay
    from audit_log.models import Record
    from audit_log.reading.contents import contents

    call_command("migrate", verbosity=0)
    out = io.StringIO()
    call_command("seed", customers=1, payments=2, json=True, stdout=out)
    logins = json.loads(out.getvalue())["users"]
    relay()
    payment = Record.objects.filter(target_type="bank.payment", action="create").first()
    assert payment is not None
    places = {
        "list": "/audit/v1/records/?target_type=bank.payment&action=create",
        "record": f"/audit/v1/records/{payment.pk}/",
        "target": f"/audit/v1/targets/bank.payment/{payment.target_id}/",
        "alerts": "/audit/v1/alerts/",
        "admin": "/admin/audit_log/record/",
    }

    def asked(name: str) -> dict[str, Any]:
        by_token, by_session = Client(), Client()
        headers = {"Authorization": f"Token {Token.objects.get(user__username=name).key}"}
        by_session.force_login(User.objects.get(username=name))
        found = {
            place: (by_session if place == "admin" else by_token)
            .get(url, headers=None if place == "admin" else headers)
            .status_code
            for place, url in places.items()
        }
        opening = by_token.post(
            f"{places['record']}contents/", {}, content_type="application/json", headers=headers
        )
        return {**found, "contents": opening.status_code}

    answers = {name: asked(name) for name in logins}
    answers["nobody"] = {place: Client().get(url).status_code for place, url in places.items()}
    relay()
    noted = [
        {
            "action": row.action,
            "outcome": row.outcome,
            "actor": contents(row)["actor"]["label"],
            "what": contents(row)["data"].get("what"),
        }
        for row in Record.objects.filter(stream="audit_log").order_by("sequence")
    ]
    listed = Client().get(
        places["list"],
        headers={"Authorization": f"Token {Token.objects.get(user__username='auditor1').key}"},
    )
    json.dump({"answers": answers, "noted": noted, "listed": listed.json()}, sys.stdout)


if __name__ == "__main__":
    main()
