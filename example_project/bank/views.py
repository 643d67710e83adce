"""The pages: lists and details to read, forms that call the services."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import aget_object_or_404, get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

import audit_log
from example_project.bank import services
from example_project.bank.forms import (
    AccountForm,
    CloseForm,
    CustomerForm,
    PaymentForm,
    RefundForm,
    TransferForm,
    WithdrawalForm,
)
from example_project.bank.models import Account, Customer, Payment, PaymentStatus
from example_project.bank.tasks import settle_payments

PAGE_SIZE = 50
View = TypeVar("View", bound=Callable[..., Any])


def permitted(permission: str) -> Callable[[View], View]:
    """Ask who it is, then refuse (403) whoever may not."""

    def decorate(view: View) -> View:
        return login_required(permission_required(permission, raise_exception=True)(view))

    return decorate


@permitted("bank.view_customer")
def customers(request: HttpRequest) -> HttpResponse:
    query = request.GET.get("q", "")
    found = Customer.objects.filter(Q(name__icontains=query) | Q(email__icontains=query))
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "bank/customers.html", {"page": page, "query": query})


@permitted("bank.view_customer")
def customer(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Customer.objects.prefetch_related("tags", "accounts"), pk=pk)
    return render(request, "bank/customer.html", {"customer": found})


@permitted("bank.add_customer")
def add_customer(request: HttpRequest) -> HttpResponse:
    form = CustomerForm(request.POST or None)
    if form.is_valid():
        return redirect("customer", pk=form.save().pk)
    return _form_page(request, form, title="New customer")


@permitted("bank.change_customer")
def edit_customer(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Customer, pk=pk)
    form = CustomerForm(request.POST or None, instance=found)
    if form.is_valid():
        form.save()
        return redirect("customer", pk=pk)
    return _form_page(request, form, title=f"Customer {pk}")


@permitted("bank.delete_customer")
def close_customer(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Customer, pk=pk)
    form = CloseForm(request.POST or None)

    def close() -> None:
        services.close_customer(pk, reason=form.cleaned_data["reason"])

    if form.is_valid() and _done(form, close):
        messages.success(request, f"Customer {pk} is closed.")
        return redirect("customers")
    return _form_page(request, form, title=f"Close customer {pk}")


@permitted("bank.add_account")
def add_account(request: HttpRequest, pk: int) -> HttpResponse:
    owner = get_object_or_404(Customer, pk=pk)
    form = AccountForm(request.POST or None)
    if form.is_valid():
        opened = services.open_account(owner, currency=form.cleaned_data["currency"])
        return redirect("account", pk=opened.pk)
    return _form_page(request, form, title=f"New account for customer {pk}")


@permitted("bank.view_account")
def accounts(request: HttpRequest) -> HttpResponse:
    found = Account.objects.select_related("customer")
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "bank/accounts.html", {"page": page})


@permitted("bank.view_account")
def account(request: HttpRequest, pk: int) -> HttpResponse:
    found = get_object_or_404(Account.objects.select_related("customer"), pk=pk)
    audit_log.viewed(found)
    context = {
        "account": found,
        "cards": found.cards.all(),
        "payments": found.payments.all()[:PAGE_SIZE],
        "withdrawals": found.withdrawals.all()[:PAGE_SIZE],
    }
    return render(request, "bank/account.html", context)


@permitted("bank.add_payment")
def pay(request: HttpRequest, pk: int) -> HttpResponse:
    form = PaymentForm(get_object_or_404(Account, pk=pk), request.POST or None)

    def order_it() -> None:
        made = services.pay(pk, form.order(), user=_user(request))
        messages.success(request, f"Payment {made.pk} is pending.")

    if form.is_valid() and _done(form, order_it):
        return redirect("account", pk=pk)
    return _form_page(request, form, title=f"Pay from account {pk}")


@permitted("bank.add_withdrawal")
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Account, pk=pk)
    form = WithdrawalForm(request.POST or None)

    def hand_out() -> None:
        data = form.cleaned_data
        services.withdraw(pk, data["amount"], at_machine=data["at_machine"])

    if form.is_valid() and _done(form, hand_out):
        return redirect("account", pk=pk)
    return _form_page(request, form, title=f"Withdraw from account {pk}")


@permitted("bank.add_payment")
def transfer(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Account, pk=pk)
    form = TransferForm(request.POST or None)

    def move() -> None:
        data = form.cleaned_data
        bonus = data["bonus"] or Decimal("0.00")
        made, rewarded = services.transfer(
            pk, data["to_iban"], data["amount"], user=_user(request), bonus=bonus
        )
        messages.success(request, f"Transfer {made.pk} is done.")
        if bonus and not rewarded:
            messages.warning(request, "The loyalty bonus was not paid.")

    if form.is_valid() and _done(form, move):
        return redirect("account", pk=pk)
    return _form_page(request, form, title=f"Transfer from account {pk}")


@require_POST
@permitted("bank.change_account")
async def request_statement(request: HttpRequest, pk: int) -> HttpResponse:
    found = await aget_object_or_404(Account, pk=pk)
    found.statement_requested_at = timezone.now()
    await found.asave(update_fields=["statement_requested_at"])
    messages.success(request, "The statement is on its way.")
    return redirect("account", pk=pk)


@permitted("bank.view_payment")
def payments(request: HttpRequest) -> HttpResponse:
    found = Payment.objects.select_related("account")
    page = Paginator(found, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "bank/payments.html", {"page": page})


@permitted("bank.view_payment")
def payment(request: HttpRequest, pk: int) -> HttpResponse:
    related = Payment.objects.select_related("account", "card", "created_by")
    found = get_object_or_404(related.prefetch_related("refunds"), pk=pk)
    return render(request, "bank/payment.html", {"payment": found})


@require_POST
@permitted("bank.change_payment")
def settle(request: HttpRequest) -> HttpResponse:
    """Let a worker settle what is pending now."""
    pending = Payment.objects.filter(status=PaymentStatus.PENDING).order_by("pk")
    ids = list(pending.values_list("pk", flat=True))
    settle_payments.delay(ids)
    messages.success(request, f"{len(ids)} payments will be settled.")
    return redirect("payments")


@permitted("bank.add_refund")
def refund(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Payment, pk=pk)
    form = RefundForm(request.POST or None)

    def give_back() -> None:
        data = form.cleaned_data
        services.refund(pk, data["amount"], reason=data["reason"])

    if form.is_valid() and _done(form, give_back):
        return redirect("payment", pk=pk)
    return _form_page(request, form, title=f"Refund payment {pk}")


def _done(form: forms.BaseForm, action: Callable[[], None]) -> bool:
    """Call a service; show in the form why it refused."""
    try:
        action()
    except services.Refused as refused:
        form.add_error(None, str(refused))
        return False
    return True


def _form_page(request: HttpRequest, form: forms.BaseForm, *, title: str) -> HttpResponse:
    return render(request, "bank/form.html", {"form": form, "title": title})


def _user(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
