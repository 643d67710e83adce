"""Fill the bank: groups, staff, customers and some payments. Safe to run again."""

import json
import secrets
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from django.utils import timezone

from example_project.bank import sample_data, services, staff
from example_project.bank.models import Account, Card, Customer, Payment, Segment

CARD_YEARS = 3


class Command(BaseCommand):
    help = "Fill the bank with staff, customers, accounts, cards and payments. Safe to run again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--seed", type=int, default=1, help="which customers (default 1)")
        parser.add_argument("--customers", type=int, default=12, help="how many (default 12)")
        parser.add_argument(
            "--payments", type=int, default=3, help="for each new customer (default 3)"
        )
        parser.add_argument(
            "--password", help="of the users; by default made, and printed this once"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        given = options["password"]
        password = given or secrets.token_urlsafe(9)
        staff.make_groups()
        logins = [
            staff.make_user(group, password=password, overwrite=bool(given))
            for group in staff.GROUPS
        ]
        teller = User.objects.get(username="teller1")
        for number in range(options["customers"]):
            _make_customer(options["seed"], number, teller=teller, payments=options["payments"])
        self._report(logins, as_json=options["json"])

    def _report(self, logins: list[staff.Login], *, as_json: bool) -> None:
        counts = {
            "customers": Customer.objects.count(),
            "accounts": Account.objects.count(),
            "cards": Card.objects.count(),
            "payments": Payment.objects.count(),
        }
        if as_json:
            users = {login.username: asdict(login) for login in logins}
            self.stdout.write(json.dumps({"users": users, **counts}))
            return
        for login in logins:
            password = login.password or "(as before)"
            self.stdout.write(f"{login.username}  password {password}  token {login.token}")
        self.stdout.write(", ".join(f"{count} {name}" for name, count in counts.items()))


def _make_customer(seed: int, number: int, *, teller: User, payments: int) -> None:
    person = sample_data.person(seed, number)
    if Account.objects.filter(iban=person.iban).exists():
        return
    # Customer first, account second: a run that was stopped in between goes on here.
    customer, _ = Customer.objects.get_or_create(
        email=person.email,
        defaults={
            "name": person.name,
            "phone": person.phone,
            "date_of_birth": person.date_of_birth,
            "national_id": person.national_id,
            "address": person.address,
            "vip": person.vip,
        },
    )
    customer.tags.add(Segment.objects.get_or_create(name=person.segment)[0])
    account = services.open_account(customer, balance=person.balance, iban=person.iban)
    card = Card.objects.create(
        account=account,
        customer=customer,
        card_number=person.card_number,
        expiry=timezone.localdate().replace(day=1, year=timezone.localdate().year + CARD_YEARS),
        holder_name=person.name.upper(),
    )
    for order_number in range(payments):
        order = sample_data.order(seed, number, order_number, card_id=card.pk)
        services.pay(account.pk, order, user=teller)
