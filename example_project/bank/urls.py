"""The pages of the bank."""

from django.urls import path
from django.views.generic import RedirectView

from example_project.bank import views

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="accounts")),
    path("customers/", views.customers, name="customers"),
    path("customers/add/", views.add_customer, name="add_customer"),
    path("customers/<int:pk>/", views.customer, name="customer"),
    path("customers/<int:pk>/edit/", views.edit_customer, name="edit_customer"),
    path("customers/<int:pk>/close/", views.close_customer, name="close_customer"),
    path("customers/<int:pk>/accounts/add/", views.add_account, name="add_account"),
    path("accounts/", views.accounts, name="accounts"),
    path("accounts/<int:pk>/", views.account, name="account"),
    path("accounts/<int:pk>/pay/", views.pay, name="pay"),
    path("accounts/<int:pk>/withdraw/", views.withdraw, name="withdraw"),
    path("accounts/<int:pk>/transfer/", views.transfer, name="transfer"),
    path("accounts/<int:pk>/statement/", views.request_statement, name="request_statement"),
    path("payments/", views.payments, name="payments"),
    path("payments/settle/", views.settle, name="settle"),
    path("payments/<int:pk>/", views.payment, name="payment"),
    path("payments/<int:pk>/refund/", views.refund, name="refund"),
]
