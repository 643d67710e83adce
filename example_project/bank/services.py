"""What the bank does. Each function is one transaction: all of it happens, or nothing."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Sum

import audit_log
from example_project.bank.models import (
    CENT,
    Account,
    AccountStatus,
    Currency,
    Customer,
    Payment,
    PaymentStatus,
    Refund,
    Withdrawal,
)
from example_project.bank.numbers import make_iban

BONUS_LIMIT = Decimal("25.00")
YEARLY_INTEREST = Decimal("0.02")
DAYS_A_YEAR = 365


class Refused(Exception):
    """The bank's rules forbid it; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a payment asks for."""

    counterparty_iban: str
    counterparty_name: str
    amount: Decimal
    card_id: int | None = None
    note: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


def open_account(
    customer: Customer,
    *,
    currency: str = Currency.EUR,
    balance: Decimal = Decimal("0.00"),
    iban: str = "",
) -> Account:
    """Open an account, by default under a new number."""
    iban = iban or make_iban(secrets.randbelow(10**10))
    return Account.objects.create(customer=customer, currency=currency, balance=balance, iban=iban)


@transaction.atomic
def pay(account_id: int, order: Order, *, user: User) -> Payment:
    """Take the money now; the payment is pending until it is settled. Raises Refused."""
    account = _locked(account_id)
    if (
        order.card_id is not None
        and not account.cards.filter(pk=order.card_id, active=True).exists()
    ):
        raise Refused("This card does not belong to the account.")
    _take(account, order.amount)
    return Payment.objects.create(
        account=account,
        customer_id=account.customer_id,
        counterparty_iban=order.counterparty_iban,
        counterparty_name=order.counterparty_name,
        amount=order.amount,
        card_id=order.card_id,
        note=order.note,
        metadata=order.metadata,
        created_by=user,
    )


@transaction.atomic
def refund(payment_id: int, amount: Decimal, *, reason: str) -> Refund:
    """Give back a payment or a part of it. Raises Refused, and then nothing has happened."""
    payment = Payment.objects.select_for_update().get(pk=payment_id)
    account = _locked(payment.account_id)
    made = Refund.objects.create(payment=payment, amount=amount, reason=reason)
    _give(account, amount)
    audit_log.record(
        "payment.refunded", target=payment, data={"amount": str(amount)}, reason=reason
    )
    # Asked last, when this refund is among them: no second one can slip in between.
    refunded = payment.refunds.aggregate(total=Sum("amount"))["total"]
    if refunded > payment.amount:
        raise Refused("Refunds cannot exceed the payment.")
    if refunded == payment.amount:
        payment.status = PaymentStatus.REFUNDED
        payment.save(update_fields=["status", "updated_at"])
    return made


@transaction.atomic
def withdraw(account_id: int, amount: Decimal, *, at_machine: str) -> Withdrawal:
    """Hand out cash. Raises Refused."""
    account = _locked(account_id)
    _take(account, amount)
    return Withdrawal.objects.create(account=account, amount=amount, at_machine=at_machine)


@transaction.atomic
def transfer(
    account_id: int, to_iban: str, amount: Decimal, *, user: User, bonus: Decimal = Decimal("0.00")
) -> tuple[Payment, bool]:
    """Move money between two accounts of this bank, with a loyalty bonus for the sender.

    Returns the payment and whether the bonus was paid: without it the transfer still stands.
    Raises Refused.
    """
    target_id = Account.objects.filter(iban=to_iban).values_list("pk", flat=True).first()
    if target_id is None or target_id == account_id:
        raise Refused("There is no other account of this bank with this IBAN.")
    # In one order for everybody, or two opposite transfers would wait for each other.
    accounts = {pk: _locked(pk) for pk in sorted([account_id, target_id])}
    source, target = accounts[account_id], accounts[target_id]
    if source.currency != target.currency:
        raise Refused("The accounts have different currencies.")
    _take(source, amount)
    _give(target, amount)
    payment = Payment.objects.create(
        account=source,
        customer_id=source.customer_id,
        counterparty_iban=target.iban,
        counterparty_name=target.customer.name,
        amount=amount,
        status=PaymentStatus.SETTLED,
        created_by=user,
    )
    return payment, _give_bonus(payment, bonus)


def _give_bonus(payment: Payment, bonus: Decimal) -> bool:
    if not bonus:
        return False
    try:
        _credit_bonus(payment, bonus)
    except Refused:
        # The savepoint took back the rows, not the objects in memory.
        payment.account.refresh_from_db()
        payment.refresh_from_db()
        return False
    return True


@transaction.atomic
def _credit_bonus(payment: Payment, bonus: Decimal) -> None:
    """A savepoint of its own in the transfer's transaction."""
    _give(payment.account, bonus)
    payment.metadata = {**payment.metadata, "bonus": str(bonus)}
    payment.save(update_fields=["metadata", "updated_at"])
    if bonus > BONUS_LIMIT:
        raise Refused("The bonus is over the limit.")


@transaction.atomic
def settle(payment_ids: Iterable[int]) -> int:
    """Mark pending payments as settled; those that are not pending any more are left alone."""
    pending = (
        Payment.objects.select_for_update()
        .filter(pk__in=list(payment_ids), status=PaymentStatus.PENDING)
        .order_by("pk")
    )
    settled = 0
    for payment in pending:
        payment.status = PaymentStatus.SETTLED
        payment.save(update_fields=["status", "updated_at"])
        settled += 1
    return settled


def pay_interest() -> int:
    """Credit a day's interest to every open account, each in a transaction of its own."""
    ids = Account.objects.filter(status=AccountStatus.OPEN, balance__gt=0).values_list(
        "pk", flat=True
    )
    credited = 0
    for account_id in list(ids):
        with transaction.atomic():
            account = _locked(account_id)
            interest = (account.balance * YEARLY_INTEREST / DAYS_A_YEAR).quantize(
                CENT, ROUND_HALF_EVEN
            )
            if interest > 0:
                _give(account, interest)
                credited += 1
    return credited


@transaction.atomic
def close_customer(customer_id: int, *, reason: str) -> None:
    """Delete a customer with all accounts, cards and payments. Raises Refused."""
    customer = Customer.objects.get(pk=customer_id)
    accounts = list(customer.accounts.select_for_update().order_by("pk"))
    if any(account.balance < 0 for account in accounts):
        raise Refused("An account is overdrawn.")
    with audit_log.acting(reason=reason):
        customer.delete()


def _locked(account_id: int) -> Account:
    account = Account.objects.select_for_update().get(pk=account_id)
    if account.status != AccountStatus.OPEN:
        raise Refused("The account is not open.")
    return account


def _take(account: Account, amount: Decimal) -> None:
    if amount > account.balance:
        raise Refused("There is not enough money in the account.")
    account.balance -= amount
    account.save(update_fields=["balance"])


def _give(account: Account, amount: Decimal) -> None:
    account.balance += amount
    account.save(update_fields=["balance"])
