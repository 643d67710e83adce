"""What people type in."""

from typing import TYPE_CHECKING, Any

from django import forms

from example_project.bank.models import CENT, Account, Card, Customer, Payment, Refund, Withdrawal
from example_project.bank.numbers import validate_iban
from example_project.bank.services import Order

if TYPE_CHECKING:
    CustomerBase = forms.ModelForm[Customer]
    AccountBase = forms.ModelForm[Account]
    PaymentBase = forms.ModelForm[Payment]
    RefundBase = forms.ModelForm[Refund]
    WithdrawalBase = forms.ModelForm[Withdrawal]
else:
    CustomerBase = AccountBase = PaymentBase = RefundBase = WithdrawalBase = forms.ModelForm


class CustomerForm(CustomerBase):
    class Meta:
        model = Customer
        fields = (
            "name",
            "email",
            "phone",
            "date_of_birth",
            "national_id",
            "address",
            "vip",
            "tags",
        )


class AccountForm(AccountBase):
    class Meta:
        model = Account
        fields = ("currency",)


class PaymentForm(PaymentBase):
    # For the card processor; the bank keeps it nowhere.
    cvv = forms.CharField(label="CVV", max_length=4, required=False, widget=forms.PasswordInput)

    class Meta:
        model = Payment
        fields = ("counterparty_name", "counterparty_iban", "amount", "card", "note")

    def __init__(self, account: Account, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cards = self.fields["card"]
        if isinstance(cards, forms.ModelChoiceField):
            cards.queryset = Card.objects.filter(account=account, active=True)

    def order(self) -> Order:
        """What was asked for, once the form is valid."""
        data = self.cleaned_data
        return Order(
            counterparty_iban=data["counterparty_iban"],
            counterparty_name=data["counterparty_name"],
            amount=data["amount"],
            card_id=data["card"].pk if data["card"] else None,
            note=data["note"],
            metadata={"channel": "counter"},
        )


class RefundForm(RefundBase):
    class Meta:
        model = Refund
        fields = ("amount", "reason")


class WithdrawalForm(WithdrawalBase):
    # Checked by the machine; the bank keeps it nowhere.
    pin = forms.CharField(label="PIN", max_length=6, required=False, widget=forms.PasswordInput)

    class Meta:
        model = Withdrawal
        fields = ("amount", "at_machine")


class TransferForm(forms.Form):
    to_iban = forms.CharField(label="To IBAN", max_length=34, validators=[validate_iban])
    amount = forms.DecimalField(max_digits=14, decimal_places=2, min_value=CENT)
    bonus = forms.DecimalField(
        label="Loyalty bonus", max_digits=14, decimal_places=2, min_value=0, required=False
    )


class CloseForm(forms.Form):
    reason = forms.CharField(max_length=200)
