"""What names in a file stand for, as far as the file itself says: strings, cursors, imports."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import Final

_CURSOR: Final = re.compile(
    r"(.*_)?(cursor|cur|curs|conn|connection|schema_editor)s?\d*", re.IGNORECASE
)
_OPENS: Final = frozenset({"cursor", "connect", "chunked_cursor"})
_WRAPPERS: Final = frozenset({"text", "SQL", "dedent"})
_GAP: Final = "{}"  # stands for what is put in at run time


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression; calls and subscripts in it stand as `()` and `[]`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{dotted(node.func)}()"
    if isinstance(node, ast.Subscript):
        return f"{dotted(node.value)}[]"
    if isinstance(node, ast.Await):
        return dotted(node.value)
    return ""


class Names:
    """The names of one file."""

    def __init__(self, tree: ast.Module) -> None:
        self.cursors: set[str] = set()
        self.imports: dict[str, str] = {}
        self._values: dict[str, list[ast.expr]] = {}
        self._bound: Counter[str] = Counter()
        for node in ast.walk(tree):
            self._look(node)

    def origin(self, node: ast.expr) -> str:
        """The dotted name of an expression, with what was imported under its first part."""
        first, dot, rest = dotted(node).partition(".")
        return self.imports.get(first, first) + dot + rest

    def is_cursor(self, node: ast.expr) -> bool:
        """Whether an expression is a cursor or a connection, by what made it or by its name."""
        name = dotted(node)
        last = name.rpartition(".")[2]
        if last.endswith("()"):
            return last[:-2] in _OPENS
        return name in self.cursors or _CURSOR.fullmatch(last.removesuffix("[]")) is not None

    def sql(self, node: ast.expr | None, depth: int = 3) -> tuple[str, bool]:
        """The text of an expression, with gaps, and whether it is all literal."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            value = node.value
            return (value if isinstance(value, str) else value.decode("utf-8", "replace")), True
        if isinstance(node, ast.BinOp):
            return self._joined(node, depth)
        if isinstance(node, ast.JoinedStr):
            return "".join(self.sql(part, depth)[0] for part in node.values), False
        if isinstance(node, ast.Name) and depth:
            return self._named(node.id, depth - 1)
        if isinstance(node, ast.Call):
            return self._called(node, depth)
        return _GAP, False

    def _joined(self, node: ast.BinOp, depth: int) -> tuple[str, bool]:
        left, literal = self.sql(node.left, depth)
        if not isinstance(node.op, ast.Add):
            return left, False  # "..." % something
        right, also = self.sql(node.right, depth)
        return left + right, literal and also

    def _named(self, name: str, depth: int) -> tuple[str, bool]:
        """All that is assigned to a name in the file: it may be any of them."""
        values = self._values.get(name, [])
        texts = [self.sql(value, depth) for value in values]
        known = bool(values) and len(values) == self._bound[name]
        return "; ".join(text for text, _ in texts), known and all(each for _, each in texts)

    def _called(self, node: ast.Call, depth: int) -> tuple[str, bool]:
        if isinstance(node.func, ast.Attribute) and node.func.attr in {"format", "join"}:
            return self.sql(node.func.value, depth)[0], False
        last = dotted(node.func).rpartition(".")[2]
        if last in _WRAPPERS and len(node.args) == 1:
            return self.sql(node.args[0], depth)
        return _GAP, False

    def _look(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self._bound[node.id] += 1
        elif isinstance(node, ast.arg):
            self._bound[node.arg] += 1  # whatever the caller gives
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self._import(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind(target, node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            self._bind(node.target, node.value)
        elif isinstance(node, ast.withitem):
            self._bind(node.optional_vars, node.context_expr)

    def _bind(self, target: ast.expr | None, value: ast.expr | None) -> None:
        if target is None or value is None:
            return
        name = dotted(target)
        last = dotted(value).rpartition(".")[2]
        if last.removesuffix("()") in _OPENS and last.endswith("()"):
            self.cursors.add(name)
        self._values.setdefault(name, []).append(value)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                origin = f"{node.module or ''}.{alias.name}"
                self.imports[alias.asname or alias.name] = origin
            elif alias.asname:
                self.imports[alias.asname] = alias.name
