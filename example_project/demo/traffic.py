"""People at work: log-ins, payments, refunds that fail, an API client, an auditor who looks."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from example_project.bank.models import Account, Card, Customer, Payment, Segment
from example_project.demo.progress import Progress

TELLERS = 3
# The test numbers that card schemes and the IBAN registry publish.
CARDS = ("4111111111111111", "5555555555554444", "378282246310005")
IBANS = ("GB82WEST12345698765432", "DE89370400440532013000", "FR1420041010050500013M02606")
# Never to be found anywhere in the log, in no form.
SECRETS = {
    "password tried": "Tr0ub4dor&3-wrong",
    "pin": "qZ7#xW",
    "query token": "q-token-9f3c1d7a55",
    "bearer": "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJkZW1vIn0.c2lnbmF0dXJlLWRlbW8tMTIzNDU2",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJub3RlIn0.c2lnbmF0dXJlLW5vdGUtOTg3NjU0",
    "private key": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj-demo",
}


class Traffic:
    """Everything that happens in the demo, and how many requests it took."""

    def __init__(self, base: str, password: str, show: Progress) -> None:
        self._base = base
        self._password = password
        self._show = show
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self.requests = 0
        issued = Card.objects.values_list("card_number", flat=True)
        self.secrets = [*SECRETS.values(), password, *CARDS, *issued]
        self.unexpected: list[str] = []

    def run(self, rounds: int) -> None:
        """All of it; the payments by three tellers at once."""
        self._log_ins()
        with ThreadPoolExecutor(TELLERS) as pool:
            per_teller = -(-rounds // TELLERS)
            list(pool.map(self._teller, range(TELLERS), [per_teller] * TELLERS))
        self._show.line(f"{self.requests} requests: payments, withdrawals, transfers, refunds")
        self._rollbacks()
        self._api()
        self._customers()
        self._auditor()
        self._show.line(f"{self.requests} requests in all")

    def _client(self, name: str | None = None) -> _Client:
        client = _Client(self, self._base)
        if name is not None:
            client.log_in(name, self._password)
        return client

    def count(self, response: httpx.Response, expected: set[int]) -> None:
        """One more request; what was not expected fails the demo."""
        with self._lock:
            self.requests += 1
            if response.status_code not in expected:
                self.unexpected.append(
                    f"{response.request.method} {response.request.url} answered "
                    f"{response.status_code}"
                )

    def _log_ins(self) -> None:
        stranger = self._client()
        stranger.log_in("teller1", SECRETS["password tried"], succeeds=False)
        stranger.log_in("nobody@bank.example", SECRETS["password tried"], succeeds=False)
        stranger.get("/accounts/", {302}, params={"token": SECRETS["query token"]})
        stranger.get("/no-such-page/", {404})
        self._client("auditor1").get("/accounts/1/pay/", {403})
        self._show.line("log-ins: two failed, one refused a page (403), one lost (404)")

    def _teller(self, number: int, rounds: int) -> None:
        client = self._client("teller1")
        accounts = list(Account.objects.order_by("pk"))
        for n in range(rounds):
            account = accounts[(number + n * TELLERS) % len(accounts)]
            other = accounts[(number + n * TELLERS + 1) % len(accounts)]
            client.get("/accounts/")
            client.get(f"/accounts/{account.pk}/")
            client.submit(f"/accounts/{account.pk}/pay/", self._payment(n))
            client.submit(
                f"/accounts/{account.pk}/withdraw/",
                {"amount": "5.00", "at_machine": f"M{n:03}", "pin": SECRETS["pin"]},
            )
            client.submit(
                f"/accounts/{account.pk}/transfer/",
                {"to_iban": other.iban, "amount": "2.50", "bonus": "1.00"},
            )
            self._show.update(f"{self.requests} requests")

    def _payment(self, n: int) -> dict[str, str]:
        notes = [
            f"paid with card {CARDS[n % len(CARDS)]}, thank you",
            f"to {IBANS[n % len(IBANS)]} as agreed",
            f"their token is {SECRETS['jwt']}",
            f"header was {SECRETS['bearer']}",
            "-----BEGIN PRIVATE KEY-----\n"
            + SECRETS["private key"]
            + "\n-----END PRIVATE KEY-----",
            "rent for November",
        ]
        return {
            "counterparty_name": "Grace Hopper",
            "counterparty_iban": IBANS[n % len(IBANS)],
            "amount": "12.34",
            "note": notes[n % len(notes)],
            "cvv": "873",
        }

    def _rollbacks(self) -> None:
        teller = self._client("teller1")
        payment = Payment.objects.order_by("pk").first()
        accounts = list(Account.objects.order_by("pk")[:2])
        if payment is None:
            raise RuntimeError("The bank has no payment.")
        teller.submit(f"/payments/{payment.pk}/refund/", {"amount": "1.00", "reason": "goodwill"})
        teller.submit(
            f"/payments/{payment.pk}/refund/",
            {"amount": "999999.00", "reason": "too much"},
            expected={200},
        )
        self._show.line("a refund, and one that was over the amount: its transaction rolled back")
        teller.submit(
            f"/accounts/{accounts[0].pk}/transfer/",
            {"to_iban": accounts[1].iban, "amount": "3.00", "bonus": "500.00"},
        )
        self._show.line("a transfer whose bonus was refused: its savepoint rolled back")
        for account in accounts:
            teller.post(f"/accounts/{account.pk}/statement/", {}, {302})
        self._show.line("an async view changed two rows")
        teller.post("/payments/settle/", {}, {302})
        self._show.line("a Celery task settles the pending payments on behalf of teller1")

    def _api(self) -> None:
        client = self._client()
        answer = client.api("/api/token/", {"username": "teller1", "password": self._password})
        token = answer["token"]
        self.secrets.append(token)
        account = Account.objects.order_by("pk").first()
        if account is None:
            raise RuntimeError("The bank has no account.")
        for n in range(5):
            client.api(
                "/api/payments/",
                {
                    "account": account.pk,
                    "counterparty_iban": IBANS[n % len(IBANS)],
                    "counterparty_name": "API Customer",
                    "amount": "1.10",
                    "note": f"card {CARDS[n % len(CARDS)]}",
                    "cvv": "871",
                    "metadata": {"client": {"api_key": SECRETS["query token"]}},
                },
                token=token,
                expected={201},
            )
        client.api("/api/payments/", {"amount": "x"}, token=token, expected={400})
        self._show.line("a DRF client with a token: five payments, one bad request")

    def _customers(self) -> None:
        teller = self._client("teller1")
        teller.submit("/customers/add/", _customer("Alan Turing", "alan@example.com"))
        customer = Customer.objects.get(email="alan@example.com")
        tags = [str(pk) for pk in Segment.objects.order_by("pk").values_list("pk", flat=True)[:2]]
        edit = f"/customers/{customer.pk}/edit/"
        form = _customer("Alan M. Turing", "alan@example.com")
        teller.submit(edit, {**form, "tags": tags})
        teller.submit(edit, {**form, "tags": tags[:1]})
        teller.submit(f"/customers/{customer.pk}/accounts/add/", {"currency": "EUR"})
        self._show.line("a customer with changed segments (many-to-many) and a new account")
        admin = self._client("admin1")
        leaving = Customer.objects.filter(accounts__cards__isnull=False).order_by("-pk").first()
        if leaving is None:
            raise RuntimeError("The bank has no customer to close.")
        admin.submit(f"/customers/{leaving.pk}/close/", {"reason": "moved abroad"})
        self._show.line("a customer closed: accounts, cards and payments deleted by cascade")
        admin.post("/logout/", {}, {302})

    def _auditor(self) -> None:
        auditor = self._client("auditor1")
        auditor.get("/admin/audit_log/record/")
        self._show.line("an auditor looks at the log, which is recorded too")


def _customer(name: str, email: str) -> dict[str, str]:
    return {
        "name": name,
        "email": email,
        "phone": "+44 20 7946 0958",
        "date_of_birth": "1912-06-23",
        "national_id": "QQ123456C",
        "address": "Hut 8, Bletchley",
    }


class _Client:
    """One person's browser."""

    def __init__(self, traffic: Traffic, base: str) -> None:
        self._traffic = traffic
        self._http = httpx.Client(base_url=base, timeout=240, headers={"User-Agent": "Demo/1.0"})

    def log_in(self, name: str, password: str, *, succeeds: bool = True) -> None:
        self.submit(
            "/login/",
            {"username": name, "password": password},
            expected={302} if succeeds else {200},
        )

    def get(self, path: str, expected: set[int] | None = None, **options: Any) -> None:
        response = self._http.get(path, **options)
        self._traffic.count(response, expected or {200})

    def submit(self, path: str, form: dict[str, Any], expected: set[int] | None = None) -> None:
        """Open a form's page, then send it."""
        self.get(path)
        self.post(path, form, expected or {302})

    def post(self, path: str, form: dict[str, Any], expected: set[int]) -> None:
        token = self._http.cookies.get("csrftoken") or ""
        response = self._http.post(path, data={**form, "csrfmiddlewaretoken": token})
        self._traffic.count(response, expected)

    def api(
        self,
        path: str,
        body: dict[str, Any],
        *,
        token: str | None = None,
        expected: set[int] | None = None,
    ) -> dict[str, Any]:
        headers = {} if token is None else {"Authorization": f"Token {token}"}
        response = self._http.post(path, json=body, headers=headers)
        self._traffic.count(response, expected or {200})
        answer = response.json()
        return answer if isinstance(answer, dict) else {}
