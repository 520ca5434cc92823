"""Gli utenti temporanei delle prove: nascono, servono, spariscono, anche quando chi li ha fatti viene ucciso."""

from __future__ import annotations

import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from tests import users


def test_a_closed_folder_is_found_wherever_it_is(tmp_path):
    person = users.User("x", 54321, 54321)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for folder in (tmp_path / "a", inner):
        folder.chmod(0o755)
    first = users.hidden(tmp_path, person)  # pytest's own folders may be closed already
    (tmp_path / "a").chmod(0o700)
    assert users.hidden(inner, person) == first or tmp_path / "a"
    assert users.hidden(Path("/usr/bin"), person) is None


@pytest.mark.root
def test_the_two_users_have_what_their_names_say_and_nothing_of_ours(run_as):
    for who, ranges in (("user", True), ("nosub", False)):
        shown = run_as(who, [sys.executable, "-m", "tests.users"])
        assert shown.returncode == 0, shown.stderr
        facts = dict(line.split("=", 1) for line in shown.stdout.splitlines())
        assert facts["mode"] == who
        assert facts["groups"] == ""
        assert facts["home"].startswith("/tmp/lkhome-")
        assert facts["run"].startswith(facts["home"])
        assert (run_as.people[who].name in Path("/etc/subuid").read_text()) is ranges
    assert run_as("root", ["id", "-u"]).stdout == "0\n"


@pytest.mark.root
def test_a_closed_checkout_is_opened_for_the_user_and_for_nobody_else(run_as, tmp_path, monkeypatch):
    checkout = tmp_path / "chiusa" / "corso"
    checkout.mkdir(parents=True)
    (checkout / "file").write_text("ciao")
    (checkout / "cartella").mkdir()
    (tmp_path / "chiusa" / "segreto").write_text("no")
    monkeypatch.setattr(users, "ROOT", checkout)
    for closed in (tmp_path / "chiusa", checkout):
        closed.chmod(0o700)
        done = run_as("nosub", ["sh", "-c", "cat file; ls -d cartella; cat ../segreto"], cwd="/")
        closed.chmod(0o755)
        assert done.stdout == "ciaocartella\n"
    assert not any(Path("/tmp").glob("tmp.*/0"))


@pytest.mark.root
@pytest.mark.serial  # it changes /etc/subuid under the feet of whoever has mounted something on it
def test_users_of_a_killed_run_are_removed_by_the_next():
    script = (
        "import os, signal\nfrom tests import users\nos.environ.pop(users.GIVEN, None)\n"
        "with users.temporary() as people:\n"
        "    print(*(user.name for user in people.values()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    names = subprocess.run(
        [sys.executable, "-c", script], cwd=users.ROOT, capture_output=True, text=True
    ).stdout.split()
    assert len(names) == 2
    assert all(pwd.getpwnam(name) for name in names)
    users.remove_stale()
    for name in names:
        with pytest.raises(KeyError):
            pwd.getpwnam(name)
        assert name not in Path("/etc/subuid").read_text() + Path("/etc/subgid").read_text()
