"""Chi non può importare chi: le sei regole di ARCHITECTURE.md, e la prova che mordono."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.imports import ROOT, Import, all_imports, cycles, layer, modules

BASE = {
    "elf",
    "environment",
    "errors",
    "layers",
    "limits",
    "model",
    "networks",
    "packets",
    "policy",
    "ports",
    "protocol",
    "rundir",
    "template",
    "units",
    "volumes",
}
CLIENT_SIDE = {"backends", "build", "client", "course", "draw", "recipes", "widgets"}
PRIVILEGED = {"engine", "kernel", "supervisor"}

#: Each layer, and the layers of labkit that it may name; whatever is not here may not be imported.
MAY_IMPORT = {
    "elf": set(),
    "environment": {"errors"},
    "errors": set(),
    "layers": {"errors"},
    "limits": {"errors"},
    "model": {"environment", "errors", "limits", "networks", "policy", "ports", "template", "volumes"},
    "networks": {"errors"},
    "packets": {"errors"},
    "policy": {"errors"},
    "ports": {"errors"},
    "protocol": {"errors"},
    "rundir": {"errors"},
    "template": {"errors"},
    "units": {"errors"},
    "volumes": {"errors", "units"},
    "images": {"errors"},
    "kernel": {"errors", "model"},
    "engine": {
        "elf",
        "environment",
        "errors",
        "images",
        "kernel",
        "limits",
        "model",
        "networks",
        "policy",
        "rundir",
        "volumes",
    },
    "supervisor": {"engine", "images", "kernel", *BASE},
    "backends": {"images", *BASE},
    "draw": {"environment", "errors", "layers", "limits", "model", "packets", "policy"},
    "client": {"backends", "build", "draw", "images", *BASE},
    "build": {"client", "images", *BASE},
    "widgets": {"client", "draw", "errors", "layers", "limits", "model", "packets"},
    "course": {"build", "client", "draw", "widgets", "environment", "errors", "limits", "model", "rundir"},
    "recipes": {"backends", "errors", "images"},
    "cli": {"backends", "build", "client", "course", "recipes", *BASE},
    "__main__": {"cli"},
    "labkit": {"client", "course", "draw", "widgets", "errors", "model"},
}
#: Libraries that only some modules may name.
ONLY_IN = {
    "ctypes": ("labkit.kernel.libc", "labkit.backends.trial"),
    "pyroute2": ("labkit.kernel.netlink",),
    "anywidget": ("labkit.widgets",),
    "ipywidgets": ("labkit.widgets",),
}
#: Whoever speaks HTTP for images; the standard library's way too.
HTTP = {"http", "urllib3", "requests", "socket"}
SPEAK_HTTP = ("labkit.images.registry", "labkit.images.local_registry")
#: Calls that make or change processes, and the layers that may name them. The probe runs by itself.
PROCESS_CALLS = {"fork", "forkpty", "execv", "execve", "execvp", "execvpe", "setns", "unshare", "posix_spawn"}
MAY_FORK = (*(f"labkit.{name}" for name in sorted(PRIVILEGED)), "labkit.backends.probe", "labkit.backends.trial")

PACKAGE = ROOT / "labkit"


@pytest.fixture(scope="module")
def found() -> list[Import]:
    return all_imports(PACKAGE)


def inside(module: str, homes: tuple[str, ...]) -> bool:
    return any(module == home or module.startswith(home + ".") for home in homes)


def wrong_layers(found: list[Import]) -> list[str]:
    return [
        str(one)
        for one in found
        if one.imported.split(".")[0] == "labkit"
        and layer(one.imported) not in MAY_IMPORT[layer(one.importer)] | {layer(one.importer), "labkit"}
    ]


def test_every_layer_is_known(found):
    assert {layer(one.importer) for one in found} <= set(MAY_IMPORT)


def test_a_layer_imports_only_what_it_may(found):
    assert wrong_layers(found) == []


def test_nobody_imports_the_package_itself_but_through_a_module(found):
    # `from labkit import x` where x is no module would load the whole course vocabulary.
    assert [str(one) for one in found if one.imported == "labkit"] == []


def test_base_modules_use_the_standard_library_only(found):
    foreign = [
        str(one)
        for one in found
        if layer(one.importer) in BASE and one.imported.split(".")[0] not in {*sys.stdlib_module_names, "labkit"}
    ]
    assert foreign == []


@pytest.mark.parametrize("name", sorted(BASE))
def test_base_modules_only_define_things_when_imported(name):
    """Niente I/O: in cima al modulo solo import, definizioni, costanti calcolate da funzioni innocue."""
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    innocent = {
        "compile", "dataclass", "field", "frozenset", "Struct", "TypeVar", "NewType", "tuple", "sorted", "len", "range",
        "RestartPolicy", "LogLimits", "Limits",
    }  # fmt: skip
    for statement in tree.body:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)):
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
                assert called in innocent, f"{name}, riga {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_library_stays_where_it_belongs(found, library):
    homes = ONLY_IN[library]
    assert [str(o) for o in found if o.imported.split(".")[0] == library and not inside(o.importer, homes)] == []
    assert any(one.imported.split(".")[0] == library for one in found), "la regola non parla più di nessuno"


def test_processes_are_made_only_on_the_laboratorys_side():
    wrong = [
        f"{name}, riga {node.lineno}: {ast.unparse(node)}"
        for name, path in modules(PACKAGE).items()
        if not inside(name, MAY_FORK)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in PROCESS_CALLS and ast.unparse(node.value) in ("os", "libc")
    ]
    assert wrong == []


def test_the_client_side_never_imports_the_laboratory(found):
    wrong = [
        o for o in found if layer(o.importer) in CLIENT_SIDE | {"cli", "labkit"} and layer(o.imported) in PRIVILEGED
    ]
    assert wrong == []


def test_the_supervisor_knows_no_http_and_no_notebook(found):
    forbidden = {"http", "urllib", "requests", "IPython", "ipykernel", "matplotlib", "asyncio"}
    wrong = [o for o in found if layer(o.importer) in PRIVILEGED and o.imported.split(".")[0] in forbidden]
    assert wrong == []


def test_unpacking_needs_only_the_standard_library():
    # The supervisor runs without site-packages (python -I -S): it must be able to open a layer.
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import labkit.images.layers, labkit.images.pack"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert done.stderr == ""


def test_images_speak_http_only_in_the_registries(found):
    speaking = {o.importer for o in found if layer(o.importer) == "images" and o.imported.split(".")[0] in HTTP}
    assert speaking
    assert {module for module in speaking if not module.startswith(SPEAK_HTTP)} == set()


def test_there_are_no_cycles(found):
    edges: dict[str, set[str]] = {}
    for one in found:
        if not one.lazy and not one.typing and one.imported.startswith("labkit."):
            edges.setdefault(one.importer, set()).add(one.imported)
    assert cycles(edges) == []


def test_importing_labkit_loads_no_kernel_code_and_no_heavy_library():
    script = "import sys, labkit; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    names = set(loaded.stdout.split())
    assert "labkit" in names
    assert {n for n in names if n.startswith(tuple(f"labkit.{layer}" for layer in PRIVILEGED))} == set()
    assert names & {"ctypes", "pyroute2", "matplotlib", "ipywidgets", "anywidget", "IPython"} == set()


def test_using_every_public_name_still_loads_no_kernel_code():
    script = "import sys, labkit; [getattr(labkit, n) for n in labkit.__all__]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert {n for n in loaded.stdout.split() if n.startswith(tuple(f"labkit.{layer}" for layer in PRIVILEGED))} == set()


# ---------------------------------------------------------------- the rules bite


def package(folder: Path, files: dict[str, str]) -> list[Import]:
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "labkit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.parent != folder / "labkit":
            (path.parent / "__init__.py").touch()
    return all_imports(folder / "labkit")


@pytest.mark.parametrize(
    "text",
    [
        "from labkit.kernel import libc",
        "from labkit import kernel",
        "import labkit.kernel.libc as libc",
        "from ..kernel import libc",
        "def f():\n    from labkit.kernel.libc import mount",
        "if TYPE_CHECKING:\n    from labkit.kernel import libc",
    ],
)
def test_a_client_that_imports_the_kernel_is_caught_however_it_does_it(tmp_path, text):
    found = package(tmp_path, {"kernel/libc.py": "", "client/lab.py": text})
    assert len(wrong_layers(found)) == 1


def test_an_import_knows_whether_it_is_lazy_or_only_for_types(tmp_path):
    text = "if TYPE_CHECKING:\n    import a\nelse:\n    import b\nclass C:\n    import c\ndef f():\n    import d\n"
    found = package(tmp_path, {"x.py": text})
    assert [(o.imported, o.lazy, o.typing) for o in found] == [
        ("a", False, True),
        ("b", False, False),
        ("c", False, False),
        ("d", True, False),
    ]


def test_a_cycle_is_found_and_a_diamond_is_not():
    assert cycles({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}}) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert cycles({"a": {"a"}}) == [["a"]]
