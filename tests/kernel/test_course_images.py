"""Le immagini del corso girano davvero: il database risponde in SQL, il server web serve, l'applicazione conta."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from labkit import Lab
from labkit.client.container import Container
from labkit.client.output import Result
from tests import users

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

#: A password that a careless script would break: an apex, a backslash, a dollar, a space.
ODD = r"o'pp\o $1"


@pytest.fixture(scope="module")
def lab(course_images: Path) -> Iterator[Lab]:
    with Lab(backend="direct") as lab:
        yield lab


@pytest.fixture(scope="module")
def database(lab: Lab) -> Container:
    """Un server con una base di dati «scuola», di «ada», e le password in due segreti."""
    return lab.run(
        "corso/mariadb",
        name="db",
        detach=True,
        secrets={"root": ODD, "ada": ODD[::-1]},
        env={
            "MARIADB_ROOT_PASSWORD_FILE": "/run/secrets/root",
            "MYSQL_DATABASE": "scuola",
            "MARIADB_USER": "ada",
            "MARIADB_PASSWORD_FILE": "/run/secrets/ada",
        },
    )


def sql(container: Container, statements: str, user: str = "root", password: str = ODD) -> Result:
    """Ciò che il client dentro l'immagine riceve, quando il server c'è: al massimo trenta secondi dopo."""
    client = f"mariadb -N -u{user} scuola"
    wait = f"timeout 30 sh -c 'until {client} -e \"SELECT 1\" > /dev/null 2>&1; do sleep 0.1; done'"
    return container.exec(
        ["sh", "-c", f"{wait}; exec {client}"], stdin=statements, env={"MYSQL_PWD": password}, quiet=True
    )


def fetch(container: Container, port: int, path: str = "") -> str:
    wait = f"until : < /dev/tcp/127.0.0.1/{port}; do sleep 0.05; done 2> /dev/null"
    container.exec(["timeout", "30", "bash", "-c", wait], quiet=True)
    with urlopen(container.url(port) + path, timeout=10) as answer:
        return str(answer.read().decode())


def test_the_database_is_prepared_from_the_environment_and_answers(database: Container) -> None:
    answer = sql(
        database, "CREATE TABLE t (n INT); INSERT INTO t VALUES (6), (7); SELECT SUM(n), CURRENT_USER() FROM t"
    )
    assert answer.output == "13\troot@localhost\n", answer.stderr
    assert sql(database, "SELECT CURRENT_USER()", "ada", ODD[::-1]).output == "ada@%\n"
    assert "ERROR 1142" in sql(database, "DROP TABLE mysql.db", "ada", ODD[::-1]).stderr  # only her own database


def test_the_server_is_the_first_process_and_has_a_user_of_its_own_where_there_is_one(
    database: Container, mode: users.Mode
) -> None:
    sql(database, "SELECT 1")
    told = database.exec(["ps", "-p", "1", "-o", "user=,comm="], quiet=True).output.split()
    assert told == ["root" if mode == "nosub" else "mysql", "mariadbd"]


def test_a_database_that_is_ready_is_not_prepared_again(database: Container) -> None:
    sql(database, "CREATE TABLE resta (n INT)")
    assert database.stop() == 0
    database.start()
    assert "resta" in sql(database, "SHOW TABLES").output
    assert database.logs().count("preparazione: fatto") == 1


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({}, "manca la password di root"),
        ({"MARIADB_ROOT_PASSWORD": "x", "MARIADB_USER": "ada"}, "manca MARIADB_PASSWORD"),
        ({"MYSQL_ROOT_PASSWORD": "x", "MYSQL_ROOT_PASSWORD_FILE": "/x"}, "tieni una sola"),
        ({"MARIADB_ROOT_PASSWORD_FILE": "/niente"}, "«/niente», che qui non si può leggere"),
        ({"MARIADB_ROOT_PASSWORD": "x", "MARIADB_USER": "root", "MARIADB_PASSWORD": "x"}, "non può essere root"),
    ],
)
def test_what_the_database_cannot_start_with_is_said(lab: Lab, env: dict[str, str], reason: str) -> None:
    done = lab.run("corso/mariadb", env=env, quiet=True, remove=True)
    assert done.exit_code == 1
    assert reason in done.stderr


def test_the_first_start_runs_the_scripts_that_were_put_there(lab: Lab) -> None:
    script = "CREATE TABLE musica (n INT); INSERT INTO musica VALUES (42);"
    other = lab.run(
        "corso/mariadb",
        name="con-script",
        detach=True,
        env={"MARIADB_ALLOW_EMPTY_ROOT_PASSWORD": "1", "MARIADB_DATABASE": "scuola"},
        templates={"/docker-entrypoint-initdb.d/1.sql": script},
    )
    assert sql(other, "SELECT n FROM musica", password="").output == "42\n", other.logs()
    other.rm(force=True)


def test_a_word_asked_to_the_server_needs_no_database(lab: Lab) -> None:
    done = lab.run("corso/mariadb", ["mariadbd", "--version"], quiet=True, remove=True)
    assert "MariaDB" in done.output


def test_the_web_server_serves_its_page_and_logs_it(lab: Lab, mode: users.Mode) -> None:
    web = lab.run("corso/nginx", name="web", publish="80", detach=True)
    assert "Funziona!" in fetch(web, 80)
    assert '"GET / HTTP/1.1" 200' in web.logs()
    workers = web.exec(["ps", "-o", "user=", "--ppid", "1"], quiet=True).output.split()
    assert set(workers) - {"root"} == (set() if mode == "nosub" else {"www-data"})
    assert web.stop() == 0
    assert "SIGQUIT" in web.logs()  # the signal with which nginx finishes what it is serving


def test_the_application_says_who_it_is_and_counts_in_the_database(lab: Lab, database: Container) -> None:
    sql(database, "SELECT 1")
    site = lab.run(
        "corso/app",
        name="sito",
        publish="8000",
        detach=True,
        secrets={"ada": ODD[::-1]},
        env={
            "SALUTO": "Salve", "DB_HOST": database.ip, "DB_USER": "ada", "DB_NAME": "scuola",
            "DB_PASSWORD_FILE": "/run/secrets/ada",
        },
    )  # fmt: skip
    assert fetch(site, 8000, "salute") == "bene\n"
    assert fetch(site, 8000) == "Salve dal container sito\nvisita numero 1\n"
    assert sql(database, "SELECT container FROM visite").output == "sito\n"
    assert site.stop() == 0


def test_an_image_loses_nothing_where_there_is_one_user_only(lab: Lab) -> None:
    assert [container.inspect().warnings for container in lab.ps(all=True) if container.inspect().warnings] == []
