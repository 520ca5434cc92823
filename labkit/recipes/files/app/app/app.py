"""Una piccola applicazione web: la sua configurazione sta nell'ambiente, i suoi dati (se ce ne sono) in un database.

SALUTO        che cosa dice (Ciao)
PORTA         su quale porta ascolta (8000)
DB_HOST       dove sta il database; senza, l'applicazione non conta le visite
DB_NAME, DB_USER, DB_PASSWORD (o DB_PASSWORD_FILE, un file con la password dentro)
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def database() -> Any:
    import pymysql  # only who has a database pays for it

    password = os.environ.get("DB_PASSWORD", "")
    if file := os.environ.get("DB_PASSWORD_FILE"):
        with open(file, encoding="utf-8") as secret:
            password = secret.read().strip()
    return pymysql.connect(
        host=os.environ["DB_HOST"],
        user=os.environ.get("DB_USER", "root"),
        password=password,
        database=os.environ.get("DB_NAME", "app"),
        connect_timeout=5,
        autocommit=True,
    )


def visits() -> int:
    """Conta questa visita; dà il numero di tutte quelle che il database ricorda."""
    with closing(database()) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS visite (id INT AUTO_INCREMENT PRIMARY KEY, container VARCHAR(64))")
        cursor.execute("INSERT INTO visite (container) VALUES (%s)", (socket.gethostname(),))
        return int(cursor.lastrowid)


class Application(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/salute":
            self.answer(200, "bene\n")
        elif self.path == "/":
            text = f"{os.environ.get('SALUTO', 'Ciao')} dal container {socket.gethostname()}\n"
            try:
                self.answer(200, text + (f"visita numero {visits()}\n" if "DB_HOST" in os.environ else ""))
            except Exception as problem:  # noqa: BLE001  (whatever it is, who asked must know)
                self.answer(503, f"{text}il database non risponde: {problem}\n")
        else:
            self.answer(404, "qui non c'è niente: prova / oppure /salute\n")

    def answer(self, code: int, text: str) -> None:
        data = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    # PID 1 has no default action for a signal: without this, stopping the container would take ten seconds.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = int(os.environ.get("PORTA", "8000"))
    print(f"in ascolto sulla porta {port}", flush=True)
    ThreadingHTTPServer(("", port), Application).serve_forever()


if __name__ == "__main__":
    main()
