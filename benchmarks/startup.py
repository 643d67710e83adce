"""What the app adds to the start of a project with 200 models: time and memory.

`python -m benchmarks.startup` starts processes in turn, with and without the app, and prints the
medians and their ratio.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Final

MODELS: Final = 200
ROUNDS: Final = 7

# Everything after the imports of Django itself, which both have.
_PROJECT: Final = """
import json, resource, sys, time
import django.contrib.auth, django.db.models
from django.conf import settings

audited = sys.argv[1] == "audited"
apps = ["django.contrib.contenttypes", "django.contrib.auth"]
settings.configure(
    INSTALLED_APPS=["audit_log", *apps] if audited else apps,
    SECRET_KEY="for the benchmark only",
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
import django
from django.db import connection, models

started = time.perf_counter()
django.setup()
made = [
    type(f"Model{n}", (models.Model,), {
        "__module__": "made", "Meta": type("Meta", (), {"app_label": "made"}),
        **{f"field{m}": models.CharField(max_length=50) for m in range(10)},
    })
    for n in range(int(sys.argv[2]))
]
for model in made:
    model()
seconds = time.perf_counter() - started
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": seconds, "kilobytes": memory}))
"""


def start(kind: str) -> dict[str, float]:
    """One start: `seconds` from `django.setup()` to the first instance of each model."""
    printed = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", _PROJECT, kind, str(MODELS)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    measured: dict[str, float] = json.loads(printed.splitlines()[-1])
    return measured


def main() -> None:
    """Print the table."""
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "audited": []}
    for number in range(ROUNDS):
        for kind, found in runs.items():  # in turn, so that a busy moment hits both
            found.append(start(kind))
        print(f"\rround {number + 1} of {ROUNDS}", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(f"{MODELS} models, median of {ROUNDS} starts")
    for unit in ("seconds", "kilobytes"):
        plain, audited = (
            statistics.median(run[unit] for run in runs[kind]) for kind in ("plain", "audited")
        )
        print(f"{unit:10}  {plain:12.3f}  audited {audited:12.3f}  ratio {audited / plain:.2f}")


if __name__ == "__main__":
    main()
