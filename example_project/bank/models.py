"""What the bank knows. The decorators say what the audit log may show, and whose data it is."""

from decimal import Decimal

from django.contrib.auth.models import User
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

import audit_log
from example_project.bank.numbers import validate_card_number, validate_iban

CENT = Decimal("0.01")


class Segment(models.Model):
    """A group of customers: "students", "mortgage"."""

    name = models.CharField(max_length=50, unique=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


@audit_log.audited(open=["vip"], sealed=["name"], subject="id")
class Customer(models.Model):
    """A person. E-mail, phone, date of birth and the like are sealed by their names."""

    name = models.CharField(max_length=100)
    email = models.EmailField(unique=True)
    phone = models.CharField(max_length=30, blank=True)
    date_of_birth = models.DateField(null=True, blank=True)
    national_id = models.CharField(max_length=30, blank=True)
    address = models.TextField(blank=True)
    vip = models.BooleanField("VIP", default=False)
    user = models.ForeignKey(
        User, on_delete=models.SET_NULL, null=True, blank=True, related_name="customers"
    )
    tags = models.ManyToManyField(Segment, blank=True, related_name="customers")

    class Meta:
        ordering = ("name", "pk")

    def __str__(self) -> str:
        return self.name


class Currency(models.TextChoices):
    EUR = "EUR", "Euro"
    USD = "USD", "US dollar"
    CHF = "CHF", "Swiss franc"


class AccountStatus(models.TextChoices):
    OPEN = "open", "Open"
    BLOCKED = "blocked", "Blocked"
    CLOSED = "closed", "Closed"


@audit_log.audited(open=["balance"], sealed=["iban"], subject="customer_id", before="database")
class Account(models.Model):
    """Money. Several processes change the balance, so the old value is asked of the database."""

    iban = models.CharField("IBAN", max_length=34, unique=True, validators=[validate_iban])
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="accounts")
    balance = models.DecimalField(max_digits=14, decimal_places=2, default=Decimal("0.00"))
    currency = models.CharField(max_length=3, choices=Currency, default=Currency.EUR)
    status = models.CharField(max_length=10, choices=AccountStatus, default=AccountStatus.OPEN)
    opened_at = models.DateTimeField(default=timezone.now, editable=False)
    statement_requested_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return self.iban


@audit_log.audited(masked=["card_number"], sealed=["holder_name"], subject="customer_id")
class Card(models.Model):
    """A card of an account, issued to a customer. Its CVV is stored nowhere."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="cards")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="cards")
    card_number = models.CharField(max_length=19, unique=True, validators=[validate_card_number])
    expiry = models.DateField()
    holder_name = models.CharField(max_length=100)
    active = models.BooleanField(default=True)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"•••• {self.card_number[-4:]}"


class PaymentStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    SETTLED = "settled", "Settled"
    REFUNDED = "refunded", "Refunded"


def amount_field() -> "models.DecimalField[Decimal, Decimal]":
    return models.DecimalField(
        max_digits=14, decimal_places=2, validators=[MinValueValidator(CENT)]
    )


@audit_log.audited(
    open=["amount"],
    sealed=["counterparty_iban", "counterparty_name", "note", "metadata"],
    subject="customer_id",
    before="database",
)
class Payment(models.Model):
    """Money that leaves an account. `customer` is who owned the account at the time."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="payments")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="payments")
    counterparty_iban = models.CharField("IBAN", max_length=34, validators=[validate_iban])
    counterparty_name = models.CharField("To", max_length=100)
    amount = amount_field()
    status = models.CharField(
        max_length=10, choices=PaymentStatus, default=PaymentStatus.PENDING, db_index=True
    )
    card = models.ForeignKey(
        Card, on_delete=models.SET_NULL, null=True, blank=True, related_name="payments"
    )
    note = models.TextField(blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="payments")

    class Meta:
        ordering = ("-pk",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(amount__gt=0), name="payment_amount_positive"
            ),
        )

    def __str__(self) -> str:
        return f"Payment {self.pk}"


class Refund(models.Model):
    """Money that comes back, all of it or a part."""

    payment = models.ForeignKey(Payment, on_delete=models.CASCADE, related_name="refunds")
    amount = amount_field()
    reason = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("pk",)

    def __str__(self) -> str:
        return f"Refund {self.pk}"


class Withdrawal(models.Model):
    """Cash from a machine."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="withdrawals")
    amount = amount_field()
    at_machine = models.CharField("Machine", max_length=30)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"Withdrawal {self.pk}"
