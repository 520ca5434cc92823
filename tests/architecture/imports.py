"""Chi importa chi, letto dal testo dei moduli senza eseguirli."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Import:
    """``importer`` nomina ``imported``; ``lazy`` se lo fa dentro una funzione, ``typing`` se solo per i tipi."""

    importer: str
    imported: str
    line: int
    lazy: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.importer}, riga {self.line}: importa {self.imported}"


def modules(package: Path) -> dict[str, Path]:
    """I moduli di un pacchetto, per nome."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path, known: set[str]) -> Iterator[Import]:
    """Gli import di un modulo; ``from a import b`` nomina ``a.b`` se ``a.b`` è un modulo, se no ``a``."""

    def visit(node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(name, alias.name, child.lineno, lazy, typing)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    above = name.split(".")[: len(name.split(".")) - child.level + (path.name == "__init__.py")]
                    base = ".".join([*above, *([base] if base else [])])
                for alias in child.names:
                    inner = f"{base}.{alias.name}"
                    yield Import(name, inner if inner in known else base, child.lineno, lazy, typing)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for part in child.body:
                    yield from visit(ast.Module([part], []), lazy, True)
                for part in child.orelse:
                    yield from visit(ast.Module([part], []), lazy, typing)
            else:
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from visit(child, lazy or inside, typing)

    return visit(ast.parse(path.read_text(encoding="utf-8")), False, False)


def all_imports(package: Path) -> list[Import]:
    known = modules(package)
    return [found for name, path in known.items() for found in imports_of(name, path, set(known))]


def layer(module: str) -> str:
    """``labkit.kernel.libc`` sta nello strato ``kernel``; il pacchetto stesso in ``labkit``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """I cicli di un grafo: ogni componente fortemente connessa di più di un nodo, o con un cappio (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1 or node in edges.get(node, ()):
                found.append(sorted(component))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found
