"""Nel deposito c'è solo ciò che vale ovunque: niente percorsi di una macchina, niente indirizzi non voluti."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.architecture.imports import ROOT

#: Every address that a file may hold. Packages are found by each one's own tool: no registry is named.
HOSTS = {
    "127.0.0.1", "localhost", "creativecommons.org", "docs.python.org", "github.com", "keepachangelog.com", "man7.org",
    "nginx.org", "semver.org", "www.kernel.org", "docs.kernel.org", "docs.docker.com", "www.w3.org",
    "opencontainers.org", "docs.oasis-open.org", "www.qemu.org", "learn.microsoft.com", "mybinder.org", "12factor.net",
}  # fmt: skip
_ADDRESS = re.compile(r"https?://([A-Za-z0-9.-]+)")
_TEXT = {
    "", ".py", ".md", ".toml", ".txt", ".js", ".css", ".json", ".svg", ".c", ".sh", ".ipynb", ".html", ".dic", ".yml",
    ".cnf", ".conf",
}  # fmt: skip
#: Whose home it is matters to nobody else; the examples of the tests are called anna, x and pippo.
_HOME = re.compile(r"/(?:home|Users)/(?!anna\b|x\b|pippo\b|NOME\b|TU\b)[a-z][a-z0-9_-]*/|/root/\.\w")
LARGEST = 400_000
_CODE = re.compile(r"^(`{3,}).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def tracked() -> list[Path]:
    """I file del deposito; fuori da git (un archivio scaricato) tutti quelli che git non ignorerebbe."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    ignored = {".venv", "build", "dist", "__pycache__", ".git"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not ignored & set(path.relative_to(ROOT).parts)]


FILES = tracked()


def texts() -> list[tuple[str, str]]:
    return [(str(p.relative_to(ROOT)), p.read_text(encoding="utf-8")) for p in FILES if p.suffix in _TEXT]


def test_there_is_something_to_look_at():
    names = {str(path.relative_to(ROOT)) for path in FILES}
    assert {"README.md", "Makefile", "pyproject.toml", "labkit/__init__.py", ".ci/run"} <= names


def test_every_address_is_one_that_we_chose():
    found = {(name, host) for name, text in texts() for host in _ADDRESS.findall(text)}
    strange = {(name, host) for name, host in found if host not in HOSTS and not name.startswith("tests/")}
    assert strange == set()


def test_the_lock_files_hold_versions_and_digests_and_no_address():
    for path in sorted((ROOT / "requirements").iterdir()):
        lines = [line.strip() for line in path.read_text().splitlines() if not line.startswith("#")]
        assert lines
        for line in lines:
            assert re.fullmatch(r"[\w.\[\]-]+==[^ ]+( ; [^\\]+)? \\|--hash=sha256:[0-9a-f]{64}( \\)?", line), line


def test_the_lock_files_hold_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {"lab": project["dependencies"] + extras["editable"]}
    wanted["dev"] = wanted["lab"] + extras["dev"] + extras["live"]
    for kind, needs in wanted.items():
        locked = {line.split("==")[0] for line in (ROOT / f"requirements/{kind}.txt").read_text().splitlines()}
        assert {re.split(r"[><=~!\[ ]", need)[0] for need in needs} - locked == set()


def test_no_file_knows_where_a_machine_keeps_it():
    # A checkout at the top of a disk (/corso) has a path that says nothing of the machine.
    here = [re.compile(re.escape(str(ROOT)) + r"\b")] if len(ROOT.parts) > 2 else []
    found = [(name, match[0]) for name, text in texts() for one in [_HOME, *here] if (match := one.search(text))]
    assert found == []


def test_no_file_is_large_and_binary_files_are_pictures():
    assert {str(p.relative_to(ROOT)): p.stat().st_size for p in FILES if p.stat().st_size > LARGEST} == {}
    named = {".gitignore", ".gitattributes", "LICENSE-CC-BY-SA-4.0"}
    assert {str(p.relative_to(ROOT)) for p in FILES if p.suffix not in _TEXT | {".png"}} - named == set()


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_stored_notebook_names_its_cells_and_nothing_of_its_author(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    assert set(nb["metadata"]) <= {"kernelspec", "language_info"}
    assert nb["metadata"]["kernelspec"]["name"] == "labkit"
    names = [cell["id"] for cell in nb["cells"]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9-]{2,64}", name) for name in names), "un nome scelto, non un numero a caso"
    assert not any(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", name) for name in names), "un nome scelto, non a caso"


def test_every_link_of_a_page_leads_somewhere():
    broken = [
        f"{page.name}: {target}"
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "slides").glob("README.md")]
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", _CODE.sub("", page.read_text(encoding="utf-8")))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_command_of_make_that_we_name_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set()
    for name, text in texts():
        if name.endswith((".md", ".py")):
            named |= set(re.findall(r"(?:`|sudo |^    )make ([a-z]+)\b", text, re.MULTILINE))
    assert named - targets == set()
    assert {"lab", "test", "setup", "help"} <= targets
