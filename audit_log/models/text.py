"""Text columns that every database compares byte by byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models


class _Exact:
    """Two values are one only if their bytes are, as PostgreSQL and SQLite have it anyway.

    MariaDB and MySQL would fold case and accents, and even under a binary collation ignore spaces
    at the end unless it is one that says "nopad" (MySQL: "0900"). Either also makes the column
    utf8mb4, whatever the database's own character set is.
    """

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        """Django's, with the collation on MariaDB and MySQL."""
        parameters: dict[str, Any] = super().db_parameters(connection)  # type: ignore[misc]
        if connection.vendor == "mysql":
            exact = "utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin"
            parameters["collation"] = exact
        return parameters


if TYPE_CHECKING:
    ExactCharField = models.CharField
    ExactTextField = models.TextField
else:

    class ExactCharField(_Exact, models.CharField):
        """A short text, compared exactly."""

    class ExactTextField(_Exact, models.TextField):
        """A text of any length, compared exactly."""
