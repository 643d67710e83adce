"""Who may use the API: those who may do the same on the site."""

from rest_framework.permissions import DjangoModelPermissions

PERMISSIONS_BY_METHOD = {
    **DjangoModelPermissions.perms_map,
    "GET": ["%(app_label)s.view_%(model_name)s"],
    "HEAD": ["%(app_label)s.view_%(model_name)s"],
}


class BankPermissions(DjangoModelPermissions):
    """Django's model permissions, asked for reading too."""

    perms_map = PERMISSIONS_BY_METHOD
