"""A user's machine: a virtual environment, the wheel in it, and a project made by Django.

The steps are those of README.md, read from its code blocks, so that they cannot drift apart: a
shell line is run, a Python block goes into the file that its first line names (or into
`manage.py shell`).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import time
import tomllib
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests import services

ROOT = Path(__file__).resolve().parents[2]
SECTION = "## Five minutes into your own project"
PASSWORD = "correct horse battery staple"
SECONDS = 600  # not to hang
_BLOCK = re.compile(r"^( *)```(?P<kind>\w+)\n(?P<code>.*?)^\1```", re.MULTILINE | re.DOTALL)
_DISTRIBUTION = re.compile(r"(?<=pip install )\"?django-audit-ledger(?P<extras>\[[\w,]+\])?\"?")
_PATIENCE = f'DATABASES["default"]["OPTIONS"] = {{"timeout": {SECONDS}}}\n'
_VARIABLE = re.compile(r"os\.environ\[\"(AUDIT_LOG_\w+)\"\]")
# What makes a wheel of a tree; the rest of a checkout is not needed, and some of it is large.
_SOURCES = ("audit_log", "audit_verify.py", "LICENSE", "README.md", "pyproject.toml")


@dataclass(frozen=True)
class Block:
    """A code block of the README. `place` is what a Python block's first line names."""

    kind: str
    code: str

    @property
    def place(self) -> str:
        first = self.code.splitlines()[0]
        return first.removeprefix("# ").removesuffix(", at its end") if first[0] == "#" else ""

    @property
    def is_for_celery(self) -> bool:
        return "celery" in self.code.lower()


def blocks(tree: Path) -> list[Block]:
    """The steps of the README's installation, in their order."""
    text = (tree / "README.md").read_text()
    section = text.split(SECTION, 1)[1].split("\n## ", 1)[0].split("\nAll models are", 1)[0]
    return [Block(m["kind"], textwrap.dedent(m["code"])) for m in _BLOCK.finditer(section)]


@dataclass
class Site:
    """A project of one folder with a virtual environment of its own."""

    folder: Path
    environment: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, line: str, *, code: int = 0, entered: str | None = None) -> str:
        """What a shell line prints; it must end with `code`."""
        try:
            ended = subprocess.run(
                ["/bin/sh", "-c", line],
                cwd=self.folder,
                env=self._variables(),
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
                input=entered or "",
            )
        except subprocess.TimeoutExpired as error:
            pytest.fail(f"{line}: not done after {SECONDS} s.\n{error.stdout!r}\n{error.stderr!r}")
        assert ended.returncode == code, f"{line}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout + ended.stderr

    def ends_well(self, line: str) -> bool:
        """Whether a shell line ends with 0."""
        return "yes" in self.run(f"({line}) >/dev/null 2>&1 && echo yes || echo no")

    def wait_for(self, line: str, said: str) -> str:
        """Run `line` until it prints `said`: what it tells of comes about in another process."""
        deadline = time.monotonic() + SECONDS
        while said not in (printed := self.run(line)) and time.monotonic() < deadline:
            time.sleep(0.3)
        assert said in printed
        return printed

    @contextmanager
    def running(self, line: str) -> Iterator[subprocess.Popen[str]]:
        """A process that goes on until it is told to stop, and then ends well."""
        log = self.folder / f"{line.rsplit(maxsplit=1)[-1].strip('-')}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {line}"],
                cwd=self.folder,
                env=self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
            )
            try:
                yield process
                assert process.poll() is None, log.read_text()
                process.terminate()
                process.wait(300)
            finally:
                process.kill()
                process.wait()

    def _variables(self) -> dict[str, str]:
        ours = ("AUDIT_LOG_", "DJANGO_", "PYTHON", "PYTEST_", "COVERAGE_")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        path = f"{self.environment / 'bin'}{os.pathsep}{inherited['PATH']}"
        return {**inherited, "PATH": path, "VIRTUAL_ENV": str(self.environment), **self.variables}

    def take(self, block: Block) -> None:
        """Do what a Python block says."""
        if block.place == "python manage.py shell":
            self.run(block.place, entered=block.code)
            return
        path = self.folder / block.place
        before = path.read_text() if path.exists() else ""
        path.write_text(f"{before}\n{block.code}")

    def install(self, line: str, wheel: Path) -> None:
        """`pip install` as the README has it, of this wheel: no index has it yet."""
        command = _DISTRIBUTION.sub(lambda m: shlex.quote(f"{wheel}{m['extras'] or ''}"), line)
        assert command != line
        printed = self.run(f"python -m {command} --quiet --disable-pip-version-check")
        assert "ERROR" not in printed, printed

    def copied(self, folder: Path) -> Site:
        """The same project once more, with a database of its own."""
        shutil.copytree(self.folder, folder)
        return Site(folder, self.environment, dict(self.variables))


def made(folder: Path) -> Site:
    """An empty virtual environment and the folder for a project."""
    environment = folder / "venv"
    venv.create(environment, with_pip=True, symlinks=True)
    (folder / "site").mkdir()
    site = Site(folder / "site", environment)
    site.variables = {
        "DJANGO_SUPERUSER_USERNAME": "ada",
        "DJANGO_SUPERUSER_EMAIL": "ada@example.com",
        "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        # Of this test alone: what a real site of this user spools is none of its business.
        "TMPDIR": str(folder),
    }
    return site


def follow(site: Site, steps: list[Block], wheel: Path) -> None:
    """Take the README's steps, those without Celery."""
    making_keys = ""
    for step in steps:
        if step.is_for_celery:
            continue
        if step.kind == "python":
            for name in _VARIABLE.findall(step.code):
                site.variables[name] = site.run(making_keys).strip()
            site.take(step)
            continue
        for line in step.code.splitlines():
            if line.startswith("python -c"):
                making_keys = line
            else:
                _do(site, line, wheel)


def _do(site: Site, line: str, wheel: Path) -> None:
    """A line as a person would have it done: who answers questions, and stops what goes on."""
    if line.startswith("pip install"):
        site.install(line, wheel)
        site.run("django-admin startproject mysite .")
        # Five seconds, SQLite's own limit, are less than a busy machine may take to write.
        site.take(Block("python", f"# mysite/settings.py, at its end\n{_PATIENCE}"))
    elif line.endswith("--loop"):
        with site.running(line):
            site.wait_for("python manage.py audit_log status", "0 batches (0 events) wait")
    elif "createsuperuser" in line:
        site.run(f"{line} --noinput")
    elif not line.endswith("runserver"):  # which the tests of the admin do
        site.run(line)


def wheel_of(tree: Path, folder: Path) -> Path:
    """Build the wheel of a source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def previous_tree(folder: Path) -> tuple[Path, str]:
    """The sources of the version before this one, and its number.

    Those of the newest tag of another version. While nothing is released there is none: then this
    tree's own under a lower number, which proves no more than that an upgrade runs.
    """
    tag = _previous_tag()
    folder.mkdir()
    if tag is not None:
        archive = subprocess.run(["git", "archive", tag], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    else:
        for name in filter(lambda name: (ROOT / name).exists(), _SOURCES):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        project = (folder / "pyproject.toml").read_text()
        lower = re.sub(r'^version = ".*"$', 'version = "0.0.1"', project, flags=re.MULTILINE)
        (folder / "pyproject.toml").write_text(lower)
    return folder, _version(folder)


def _version(tree: Path) -> str:
    project: Mapping[str, str] = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    return project["version"]


def _previous_tag() -> str | None:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "tag", "--sort=-version:refname", "--list", "v[0-9]*", "[0-9]*"]
    tags = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return next((tag for tag in tags.split() if tag.lstrip("v") != _version(ROOT)), None)


def need_index(site: Site) -> None:
    """Skip where pip reaches no index; where services are required, fail."""
    command = "python -m pip index versions django --retries 2 --timeout 60"
    if site.ends_well(command):
        return
    if services.required():
        pytest.fail("pip reaches no package index.")
    pytest.skip("pip reaches no package index.")
