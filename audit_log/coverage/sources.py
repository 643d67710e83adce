"""The project's own Python files: not those of installed packages, nor its tests."""

from __future__ import annotations

import ast
import io
import os
import re
import site
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

from django.apps import apps

from audit_log import conf

ACCEPTED: Final = "# audit: seen"
_COMMENT: Final = re.compile(r"#\s*audit:\s*seen\b")
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages", "tests", "test"})
_TESTS: Final = re.compile(r"(test_.*|.*_tests?|tests?|conftest)\.py")
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_OURS: Final = Path(__file__).resolve().parent.parent


@dataclass
class Source:
    """One file: `shown` is its path from its root."""

    path: Path
    shown: str
    text: str = field(repr=False)
    tree: ast.Module = field(repr=False)

    @cached_property
    def _comments(self) -> dict[int, bool]:
        """The lines with our comment; whether it is all that is there."""
        if not _COMMENT.search(self.text):
            return {}
        return {
            token.start[0]: token.line.lstrip().startswith("#")
            for token in tokenize.generate_tokens(io.StringIO(self.text).readline)
            if token.type == tokenize.COMMENT and _COMMENT.match(token.string)
        }

    def accepts(self, first: int, last: int) -> bool:
        """Whether our comment stands on these lines, or alone on the line before."""
        found = self._comments
        return found.get(first - 1, False) or any(n in found for n in range(first, last + 1))


@dataclass
class Project:
    """The project's files, below `roots`. `unread` are those that are no Python."""

    roots: dict[Path, Path]
    sources: dict[Path, Source] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def read() -> Project:
    """Read every file beside the settings' package, and in the project's other packages."""
    project = Project(_roots())
    for root, base in project.roots.items():
        for path in _files(root):
            if path in project.sources:
                continue
            shown = path.relative_to(base).as_posix()
            try:
                project.sources[path] = parse(path, shown)
            except (OSError, SyntaxError, ValueError, RecursionError):
                project.unread.append(shown)
    return project


def parse(path: Path, shown: str) -> Source:
    """One file. Raises OSError, SyntaxError, ValueError or RecursionError."""
    raw = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of "\d" and the like: theirs to see
        tree = ast.parse(raw)
    encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    return Source(path, shown, io.TextIOWrapper(io.BytesIO(raw), encoding).read(), tree)


def is_own(path: Path) -> bool:
    """Whether a file is the project's: not installed, not Python's, not ours."""
    if _INSTALLED & set(path.parts) or path.is_relative_to(_OURS):
        return False
    return not any(path.is_relative_to(place) for place in _installed())


@lru_cache(maxsize=1)
def _installed() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    named = [paths[key] for key in ("purelib", "platlib", "stdlib", "platstdlib")]
    return tuple(Path(each).resolve() for each in [*named, site.getusersitepackages()])


def _roots() -> dict[Path, Path]:
    """The folder that the settings' package is in, and that of each app; shown from where."""
    found: dict[Path, Path] = {}
    for name in conf.project_modules():
        path = getattr(sys.modules.get(name), "__file__", None)
        if path is not None:
            is_package = Path(path).stem == "__init__"
            folder = Path(path).resolve().parents[name.count(".") + is_package]
            found[folder] = folder
    for each in apps.get_app_configs():
        folder = Path(each.path).resolve()
        bases = [base for base in found if folder.is_relative_to(base)]
        found[folder] = bases[0] if bases else folder.parents[each.name.count(".")]
    return {folder: base for folder, base in found.items() if is_own(folder)}


def _files(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = sorted(
            name
            for name in below
            if name not in _SKIPPED
            and not name.startswith(".")
            and not Path(folder, name, "pyvenv.cfg").exists()
            and is_own(Path(folder, name))
        )
        for name in sorted(names):
            if name.endswith(".py") and not _TESTS.fullmatch(name):
                yield Path(folder, name)
