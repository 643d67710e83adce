"""The groups of people who work here, and one of each."""

from dataclasses import dataclass

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Q
from rest_framework.authtoken.models import Token

TELLER_MODELS = ("customer", "account", "card", "payment", "refund", "withdrawal", "segment")
TELLER = Q(
    content_type__app_label="bank",
    codename__in=[
        f"{verb}_{model}" for verb in ("view", "add", "change") for model in TELLER_MODELS
    ],
)
# The permissions of the audit log are found once its migrations have run. Whoever works with the
# data does not see the log; whoever sees the log changes no data; few open what is sealed.
AUDITOR = Q(content_type__app_label="bank", codename__startswith="view_") | Q(
    content_type__app_label="audit_log", codename__in=("view_record", "view_alert")
)
COMPLIANCE = AUDITOR | Q(content_type__app_label="audit_log", codename="view_sealed")
ADMIN = Q(content_type__app_label__in=("bank", "auth", "audit_log"))
GROUPS = {"teller": TELLER, "auditor": AUDITOR, "compliance": COMPLIANCE, "admin": ADMIN}


@dataclass(frozen=True, slots=True)
class Login:
    """How a member of staff gets in. `password` is None when it stays as it was."""

    username: str
    password: str | None
    token: str


def make_groups() -> None:
    """Make the groups, with the permissions that exist now."""
    for name, wanted in GROUPS.items():
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.set(Permission.objects.filter(wanted))


def make_user(group_name: str, *, password: str, overwrite: bool) -> Login:
    """Make the first member of a group, with an API token."""
    user, created = User.objects.get_or_create(
        username=f"{group_name}1",
        defaults={
            "email": f"{group_name}1@bank.example",
            "is_staff": group_name != "teller",
            "is_superuser": group_name == "admin",
        },
    )
    if created or overwrite:
        user.set_password(password)
        user.save(update_fields=["password"])
    user.groups.add(Group.objects.get(name=group_name))
    token, _ = Token.objects.get_or_create(user=user)
    return Login(user.username, password if created or overwrite else None, token.key)
