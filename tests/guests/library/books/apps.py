# mypy: ignore-errors
from django.apps import AppConfig

import surroundings


class BooksConfig(AppConfig):
    name = "books"

    def ready(self):
        surroundings.be_patient()
