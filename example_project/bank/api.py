"""The API: accounts to read; payments to read, make and refund."""

from django.contrib.auth.models import User
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import NotAuthenticated, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

import audit_log
from example_project.bank import services
from example_project.bank.models import Account, Payment
from example_project.bank.serializers import (
    AccountSerializer,
    PaymentSerializer,
    RefundSerializer,
)

CREATED = 201


class AccountViewSet(audit_log.ViewedMixin, viewsets.ReadOnlyModelViewSet[Account]):
    """Who looks at accounts is recorded, as on the site."""

    queryset = Account.objects.all()
    serializer_class = AccountSerializer


class PaymentViewSet(
    mixins.CreateModelMixin,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    viewsets.GenericViewSet[Payment],
):
    queryset = Payment.objects.all()
    serializer_class = PaymentSerializer

    def perform_create(self, serializer: BaseSerializer[Payment]) -> None:
        if not isinstance(self.request.user, User):
            raise NotAuthenticated
        if not isinstance(serializer, PaymentSerializer):
            raise TypeError(serializer)
        account = serializer.validated_data["account"]
        try:
            serializer.instance = services.pay(
                account.pk, serializer.order(), user=self.request.user
            )
        except services.Refused as refused:
            raise ValidationError({"detail": str(refused)}) from refused

    @action(detail=True, methods=["post"], serializer_class=RefundSerializer)
    def refund(self, request: Request, pk: str) -> Response:
        if not request.user.has_perm("bank.add_refund"):
            raise PermissionDenied
        payment = self.get_object()
        serializer = RefundSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        data = serializer.validated_data
        try:
            refund = services.refund(payment.pk, data["amount"], reason=data["reason"])
        except services.Refused as refused:
            raise ValidationError({"detail": str(refused)}) from refused
        return Response(RefundSerializer(refund).data, status=CREATED)
