"""benchmarks/results.json: what was measured, where and when; the tables are made from it.

`{"machine", "date", "commit", "versions", "sections": {section: {"date", "commit"}}, "rows": [
{"operation", "subject", "median_us", "p95_us", "ratio", "queries", "captured"}], "details",
"storage", "memory", "recorded", "saves", "relay", "latency", "micro"}`. Times are microseconds;
`ratio` is against the subject "none" in the same rounds; `queries` are round trips to the server,
`captured` events found in the subject's tables after one operation.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.databases import server_settings
from benchmarks.subjects import SUBJECTS

PATH: Final = Path(__file__).parent / "results.json"
SECTIONS: Final = ("rows", "storage", "saves", "relay", "latency", "micro")
_KEYS: Final = {  # what else a section brings along
    "rows": ("rows", "details"),
    "storage": ("storage", "memory", "recorded"),
    "saves": ("saves",),
    "relay": ("relay",),
    "latency": ("latency",),
    "micro": ("micro",),
}
Results = dict[str, Any]


def load(path: Path = PATH) -> Results:
    """What is in the file, or nothing."""
    found: Results = json.loads(path.read_text()) if path.exists() else {}
    return found


def save(results: Results, path: Path = PATH) -> None:
    """One line for each row, so that a change can be read."""
    parts = [f'"{key}": {_written(value)}' for key, value in results.items()]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def _written(value: Any) -> str:
    if not isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    lines = ",\n  ".join(json.dumps(item, ensure_ascii=False) for item in value)
    return f"[\n  {lines}\n]" if value else "[]"


def merged(old: Mapping[str, Any], measured: Mapping[str, Any], header: Results) -> Results:
    """`old` with the sections that were measured replaced.

    `measured` is `{section: {key: rows}}`. The date and commit at the top are those of the last
    run; each section keeps its own.
    """
    stamp = {"date": header["date"], "commit": header["commit"]}
    sections = {**old.get("sections", {}), **dict.fromkeys(measured, stamp)}
    result: Results = {**header, "sections": {k: sections[k] for k in SECTIONS if k in sections}}
    for section in SECTIONS:
        for key in _KEYS[section]:
            result[key] = measured.get(section, old).get(key, [])
    return result


def header() -> Results:
    """`machine`, `date`, `commit` and `versions` of now."""
    return {
        "machine": machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": commit(),
        "versions": versions(),
    }


def machine() -> dict[str, Any]:
    """Processor, cores, memory, system, and what PostgreSQL does at a COMMIT."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "postgresql": {k: v for k, v in server_settings().items() if k != "server_version"},
    }


def versions() -> dict[str, str]:
    """Of Python, Django, the server, its driver, and of the subjects."""
    names = ["Django", "psycopg", *[s.distribution for s in SUBJECTS if s.distribution]]
    return {
        "Python": platform.python_version(),
        "PostgreSQL": server_settings()["server_version"].split()[0],
        **{name: importlib.metadata.version(name) for name in names},
    }


def commit() -> str:
    """The commit measured, with a `+` where files differ from it."""
    try:
        said = _git("rev-parse", "--short=12", "HEAD")
        return said + ("+" if _git("status", "--porcelain", "--", "audit_log") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    folder = Path(__file__).parent.parent
    run = subprocess.run(command, cwd=folder, capture_output=True, check=True, text=True)  # noqa: S603
    return run.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> int | None:
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    except (AttributeError, ValueError, OSError):
        return None
