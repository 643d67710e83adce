"""What the bank does later. The audit log names the user who asked, not the worker."""

from celery import shared_task

from example_project.bank import services


@shared_task(name="bank.settle_payments", ignore_result=True)
def settle_payments(payment_ids: list[int]) -> None:
    services.settle(payment_ids)


@shared_task(name="bank.apply_interest", ignore_result=True)
def apply_interest() -> None:
    services.pay_interest()
