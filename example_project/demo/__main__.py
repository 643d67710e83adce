"""`make demo`: a year of history, a bank and its traffic, and what the log knows of them.

`--once` ends after the figures instead of staying up; `--json` prints them as the last line.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from example_project.demo.progress import Progress

if TYPE_CHECKING:
    from example_project.demo.history import History

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "var" / "demo"
_PREPARED = "BANK_DEMO_PREPARED"
LOGGED = ("audit_log", "django", "celery", "kombu")


def main() -> int:
    """Run the demo. 0 when every promise held."""
    options = _options()
    if _PREPARED not in os.environ:
        _start_again()
    started = time.monotonic()
    show = Progress(sys.stderr)
    password = secrets.token_urlsafe(9)
    show.section("Setting the bank up (SQLite, in var/demo)")
    past = _set_up(password, show)

    # Django is set up now, so what needs it can be imported.
    from example_project.demo import figures  # noqa: PLC0415
    from example_project.demo.embedded import Embedded  # noqa: PLC0415
    from example_project.demo.traffic import Traffic  # noqa: PLC0415

    with Embedded(options.port) as running:
        show.section("The site, a Celery worker and beat run; now traffic")
        driver = Traffic(f"http://127.0.0.1:{running.port}", password, show)
        driver.run(options.rounds)
        figures.wait_for_worker(show)
        if not options.once:
            figures.show(
                figures.measure(driver, running.published, past, time.monotonic() - started), show
            )
            _stay_up(running.port, password, show)
            return 0
    result = figures.measure(driver, running.published, past, time.monotonic() - started)
    figures.show(result, show)
    for problem in result.problems():
        show.line(f"PROBLEM: {problem}")
    if options.json:
        sys.stdout.write(json.dumps(result.as_json()) + "\n")
    return 1 if result.problems() else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the figures")
    parser.add_argument("--json", action="store_true", help="the figures as the last line")
    parser.add_argument("--rounds", type=int, default=20, help="of traffic (default 20)")
    parser.add_argument("--port", type=int, default=0, help="of the site (default: a free one)")
    return parser.parse_args()


def _start_again() -> None:
    """In an empty folder, with an environment of our own: the settings were read without it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    environment = {
        **os.environ,
        _PREPARED: "1",
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "BANK_VAR_DIR": str(FOLDER),
        "SECRET_KEY": secrets.token_urlsafe(40),
        "AUDIT_LOG_ENCRYPTION_KEYS": f"demo={b64encode(secrets.token_bytes(32)).decode()}",
        "CELERY_BROKER_URL": "memory://",
        "LOG_LEVEL": "CRITICAL",  # what is refused on purpose is said by the demo itself
    }
    for name in ("DATABASE_URL", "AUDIT_DATABASE_URL"):
        environment.pop(name, None)
    arguments = [sys.executable, "-m", "example_project.demo", *sys.argv[1:]]
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - ourselves


def _log_to_file() -> None:
    """Everything the site and the worker log, so that it can be searched for secrets."""
    handler = logging.FileHandler(FOLDER / "demo.log")
    for name in LOGGED:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


def _set_up(password: str, show: Progress) -> History:
    import django  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415

    django.setup()
    _log_to_file()
    call_command("migrate", verbosity=0)
    from example_project.demo import history, truth  # noqa: PLC0415

    truth.install()
    show.line("migrated")
    past = history.run(show)
    show.section("The bank of today")
    call_command("seed", password=password, customers=8, payments=2, stdout=io.StringIO())
    show.line("seeded: 4 users, 8 customers with accounts, cards and payments")
    return past


def _stay_up(port: int, password: str, show: Progress) -> None:
    show.section("The site stays up until Ctrl-C")
    show.line(f"the bank    http://127.0.0.1:{port}/          teller1 / {password}")
    show.line(
        f"the log     http://127.0.0.1:{port}/admin/audit_log/record/   auditor1 / {password}"
    )
    show.line(f"the admin   http://127.0.0.1:{port}/admin/    admin1 / {password}")
    try:
        signal.pause()
    except KeyboardInterrupt:
        show.line("stopping")


if __name__ == "__main__":
    sys.exit(main())
