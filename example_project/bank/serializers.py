"""The JSON of the API."""

from typing import Any

from rest_framework import serializers

from example_project.bank.models import Account, Payment, Refund
from example_project.bank.services import Order


class AccountSerializer(serializers.ModelSerializer[Account]):
    class Meta:
        model = Account
        fields = ("id", "iban", "customer", "balance", "currency", "status", "opened_at")


class PaymentSerializer(serializers.ModelSerializer[Payment]):
    # For the card processor; the bank keeps it nowhere.
    cvv = serializers.CharField(write_only=True, required=False, max_length=4)

    class Meta:
        model = Payment
        fields = (
            "id",
            "account",
            "counterparty_iban",
            "counterparty_name",
            "amount",
            "card",
            "cvv",
            "note",
            "metadata",
            "status",
            "created_at",
        )
        read_only_fields = ("status", "created_at")

    def order(self) -> Order:
        """What was asked for, once the data is valid."""
        data: dict[str, Any] = dict(self.validated_data)
        card = data.get("card")
        return Order(
            counterparty_iban=data["counterparty_iban"],
            counterparty_name=data["counterparty_name"],
            amount=data["amount"],
            card_id=card.pk if card else None,
            note=data.get("note", ""),
            metadata={"channel": "api", **data.get("metadata", {})},
        )


class RefundSerializer(serializers.ModelSerializer[Refund]):
    class Meta:
        model = Refund
        fields = ("id", "payment", "amount", "reason", "created_at")
        read_only_fields = ("payment", "created_at")
