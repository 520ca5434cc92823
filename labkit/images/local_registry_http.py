"""L'HTTP di un registro: leggere il corpo di una domanda, rispondere, dire gli errori come li vuole la specifica."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from labkit.errors import InvalidError, LabError
from labkit.images.descriptor import write

_PIECE = 1 << 18
_NONE: Mapping[str, str] = MappingProxyType({})


class QuietServer(ThreadingHTTPServer):
    """Un thread per connessione; chi se ne va a metà non fa rumore."""

    daemon_threads = True
    request_queue_size = 128  # a class begins all at once
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that goes away in the middle is nothing to write about on the student's terminal.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class RefusedError(Exception):
    """Una risposta d'errore della specifica: stato HTTP, codice, messaggio (distribution-spec, «Error Codes»)."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def unknown(what: str) -> RefusedError:
    """Quello che si cerca non c'è."""
    return RefusedError(404, f"{what}_UNKNOWN", "non c'è")


class Exchange(BaseHTTPRequestHandler):
    """Una domanda e la sua risposta. Chi eredita definisce :meth:`route`."""

    protocol_version = "HTTP/1.1"
    server_version = "labkit"
    sys_version = ""
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the terminal belongs to the student

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  (names of http.server)

    def route(self) -> None:
        """Risponde, oppure solleva."""
        raise unknown("NAME")

    def began(self) -> None:
        """Una domanda è arrivata."""

    def ended(self) -> None:
        """La risposta è partita, o non partirà più: ``status``, ``received`` e ``sent`` dicono com'è andata."""

    def _serve(self) -> None:
        self.status = self.received = self.sent = 0
        self.began()
        try:
            self._answer()
        finally:
            self.ended()

    def send_response(self, code: int, message: str | None = None) -> None:
        self.status = int(code)
        super().send_response(code, message)

    def _answer(self) -> None:
        self.left = -1 if "chunked" in self.headers.get("Transfer-Encoding", "").lower() else self._length()
        try:
            self.route()
        except RefusedError as refused:
            self._error(refused.status, refused.code, str(refused))
        except InvalidError as problem:
            self._error(400, "MANIFEST_BLOB_UNKNOWN" if "blob" in problem.details else self._invalid(), problem.message)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except LabError as problem:
            self._error(500, "UNKNOWN", str(problem))
        except OSError as problem:
            self._error(500, "UNKNOWN", os.strerror(problem.errno or 0))

    def _length(self) -> int:
        text = self.headers.get("Content-Length", "0")
        return int(text) if text.isdigit() else 0

    def _invalid(self) -> str:
        kinds = {"manifests": "MANIFEST_INVALID", "blobs": "DIGEST_INVALID"}
        return next((code for part, code in kinds.items() if f"/{part}/" in self.path), "NAME_INVALID")

    def reply(self, status: int, body: bytes = b"", kind: str = "", headers: Mapping[str, str] = _NONE) -> None:
        self.finish_reading()
        self.send_response(status)
        self.send_header("Docker-Distribution-API-Version", "registry/2.0")
        self.send_header("X-Content-Type-Options", "nosniff")
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.sent += len(body)

    def _error(self, status: int, code: str, message: str) -> None:
        body = write({"errors": [{"code": code, "message": message, "detail": None}]})
        self.reply(status, body, "application/json")

    def finish_reading(self) -> None:
        """Ciò che del corpo non si è letto non deve sembrare la prossima domanda."""
        if self.left:
            self.close_connection = True

    def body(self, most: int) -> Iterator[bytes]:
        """Il corpo della domanda, intero o a pezzi (RFC 9112, «Chunked Transfer Coding»)."""
        total = 0
        if self.left >= 0:
            if self.left > most:
                raise RefusedError(413, "SIZE_INVALID", f"il massimo è {most} byte")
            while self.left:
                data = self.rfile.read(min(self.left, _PIECE))
                if not data:
                    raise ConnectionError
                self.left -= len(data)
                self.received += len(data)
                yield data
            return
        while True:
            line = self.rfile.readline(128).split(b";")[0].strip()
            try:
                size = int(line, 16)
            except ValueError:
                raise ConnectionError from None
            total += size
            if total > most:
                raise RefusedError(413, "SIZE_INVALID", f"il massimo è {most} byte")
            while size:
                data = self.rfile.read(min(size, _PIECE))
                if not data:
                    raise ConnectionError
                size -= len(data)
                self.received += len(data)
                yield data
            if self.rfile.readline(128).strip():  # the line that ends a piece, or trailers that nobody sends
                raise ConnectionError
            if line.strip(b"0") == b"":
                self.left = 0
                return
