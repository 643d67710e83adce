"""What mypy needs to see: the tests' models, the benchmarks' and the bank's, in one project."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as _INSTALLED_APPS

INSTALLED_APPS = [
    *_INSTALLED_APPS,
    "rest_framework.authtoken",
    "benchmarks.catalog",
    "benchmarks.workload",
    "example_project.bank",
]
