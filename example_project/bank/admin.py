"""The admin. Money is moved by the services, so amounts and balances are only shown here."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from example_project.bank.models import (
    Account,
    Card,
    Customer,
    Payment,
    Refund,
    Segment,
    Withdrawal,
)

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin


class MoneyAdmin(ModelAdmin):
    """Rows that only the services make."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(Segment)
class SegmentAdmin(ModelAdmin):
    search_fields = ("name",)


@admin.register(Customer)
class CustomerAdmin(ModelAdmin):
    list_display = ("name", "email", "vip")
    list_filter = ("vip", "tags")
    search_fields = ("name", "email")
    raw_id_fields = ("user",)
    filter_horizontal = ("tags",)


@admin.register(Account)
class AccountAdmin(ModelAdmin):
    list_display = ("iban", "customer", "balance", "currency", "status")
    list_filter = ("status", "currency")
    list_select_related = ("customer",)
    search_fields = ("iban", "customer__name")
    raw_id_fields = ("customer",)
    readonly_fields = ("balance", "opened_at", "statement_requested_at")


@admin.register(Card)
class CardAdmin(ModelAdmin):
    list_display = ("__str__", "holder_name", "expiry", "active")
    list_filter = ("active",)
    raw_id_fields = ("account", "customer")


@admin.register(Payment)
class PaymentAdmin(MoneyAdmin):
    list_display = ("__str__", "account", "counterparty_name", "amount", "status", "created_at")
    list_filter = ("status",)
    list_select_related = ("account",)
    search_fields = ("counterparty_name",)
    fields = (
        "account",
        "counterparty_name",
        "counterparty_iban",
        "amount",
        "card",
        "status",
        "note",
        "metadata",
        "created_by",
        "created_at",
        "updated_at",
    )
    readonly_fields = tuple(name for name in fields if name not in {"status", "note"})


@admin.register(Refund)
class RefundAdmin(MoneyAdmin):
    list_display = ("__str__", "payment", "amount", "created_at")
    readonly_fields = ("payment", "amount", "created_at")


@admin.register(Withdrawal)
class WithdrawalAdmin(MoneyAdmin):
    list_display = ("__str__", "account", "amount", "at_machine", "created_at")
    list_select_related = ("account",)
    readonly_fields = ("account", "amount", "at_machine", "created_at")
