# All that is needed to begin is make and a Python of at least 3.11.

VENV := .venv
PY := $(VENV)/bin/python

# Passed on: `make demo ARGS="--once --json"`, `make test PYTEST_ARGS="tests/ledger -x"`.
ARGS ?=
PYTEST_ARGS ?= -n auto

# Every candidate is run, not only looked up: a version manager's stub is on PATH but starts nothing,
# and some systems ship a Python without venv.
PYTHONS := $(PYTHON) python3.13 python3.12 python3.11 python3 python
USABLE := import ensurepip, sqlite3, sys, venv; sys.exit(sys.version_info < (3, 11))

# Whether a server answers, and the tests on it; the variables name another one.
define tests_on
if reason=$$($(PY) -m tests.services $(1)); then \
  echo "AUDIT_LOG_TEST_DB=$(1) $(PY) -m pytest $(PYTEST_ARGS)"; \
  AUDIT_LOG_TEST_DB=$(1) $(PY) -m pytest $(PYTEST_ARGS); \
elif [ "$$AUDIT_LOG_REQUIRE_SERVICES" = 1 ]; then \
  echo "FAILED: $$reason (AUDIT_LOG_REQUIRE_SERVICES=1)"; exit 1; \
else \
  echo "SKIPPED: $$reason ($(2) name another server)"; \
fi
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types check bench bench-quick clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | \
	  while IFS='|' read -r target text; do printf '%-18s  %s\n' "$$target" "$$text"; done

demo: $(VENV)/example.stamp ## The example bank, live: a site, a worker, traffic, and what was recorded
	@$(PY) -m example_project.demo $(ARGS)

test: $(VENV)/dev.stamp $(VENV)/mysql.stamp ## The tests, on SQLite, and on PostgreSQL and MariaDB where they answer
	@echo "== Tests on SQLite"
	AUDIT_LOG_TEST_DB=sqlite $(PY) -m pytest $(PYTEST_ARGS)
	@echo "== Tests on PostgreSQL"
	@$(call tests_on,postgres,PGHOST PGPORT PGUSER PGPASSWORD)
	@echo "== Tests on MariaDB"
	@$(call tests_on,mysql,MYSQL_HOST MYSQL_TCP_PORT MYSQL_USER MYSQL_PWD)

lint: $(VENV)/dev.stamp ## Style, and the direction of imports
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/lint-imports --no-logo

types: $(VENV)/dev.stamp ## mypy, strict
	$(PY) -m mypy

check: lint types test ## All of the above, as before a pull request

bench: $(VENV)/bench.stamp $(VENV)/mysql.stamp ## Speed, beside five other packages: all of docs/performance.md
	$(PY) -m benchmarks $(ARGS)
	$(PY) -m benchmarks.report

bench-quick: $(VENV)/bench.stamp ## The table of packages alone, in under two minutes; writes nothing
	$(PY) -m benchmarks --quick $(ARGS)

clean: ## Remove what tools, tests and the demo left; keeps .venv
	rm -rf build dist var .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache \
	  .ruff_cache .tox
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@for python in $(PYTHONS); do \
	  if "$$python" -c '$(USABLE)' >/dev/null 2>&1; then \
	    echo "Making $(VENV) with $$($$python --version), $$(command -v $$python)"; \
	    exec "$$python" -m venv --clear $(VENV); \
	  fi; \
	done; \
	echo "No usable Python found. This needs Python 3.11 or newer with venv and ensurepip" >&2; \
	echo "(Debian, Ubuntu: apt install python3-venv), or name one: make PYTHON=/path/to/python3" >&2; \
	exit 1

# One stamp for each dependency group of pyproject.toml; older than that file, it is renewed.
# pip knows --group since 25.1. A venv whose creation was interrupted may have no pip at all.
$(VENV)/%.stamp: pyproject.toml | $(PY)
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip
	@echo "Installing the app and its '$*' packages into $(VENV) (a minute or two, once)"
	@$(PY) -m pip install --quiet --quiet --disable-pip-version-check 'pip>=25.1'
	@$(PY) -m pip install --quiet --quiet --disable-pip-version-check --group $* --editable .
	@touch $@

# MariaDB's driver comes as source: without a compiler and the client's headers there is none, and
# its tests are skipped. Tried again the next time.
$(VENV)/mysql.stamp: $(VENV)/dev.stamp
	@echo "Installing mysqlclient into $(VENV), for the tests on MariaDB"
	@if $(PY) -m pip install --quiet --disable-pip-version-check --editable '.[mysql]' \
	  >$(VENV)/mysql.log 2>&1; then \
	  touch $@; \
	else \
	  echo "It cannot be installed; it needs gcc, libmariadb-dev, pkg-config ($(VENV)/mysql.log)"; \
	fi
