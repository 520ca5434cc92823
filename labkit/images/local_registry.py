"""Il registro del corso: un registro vero su questa macchina (OCI distribution-spec 1.1), per i client di tutti.

Ascolta solo su loopback e risponde solo a chi lo chiama per nome di questa macchina: una pagina web aperta
nel browser non può usarlo con un nome finto (DNS rebinding). Docker, Podman, skopeo e oras ci mandano e
ne prendono immagini.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from labkit.errors import InvalidError, LabError
from labkit.images.blobs import Blobs, write_all
from labkit.images.descriptor import INDEX, LARGEST_DOCUMENT, write
from labkit.images.digest import Digest
from labkit.images.disk import explained, make_folder
from labkit.images.local_registry_shelf import Shelf, forget_uploads, repositories
from labkit.images.registry_transport import is_local

_PIECE = 1 << 18
#: Largest blob that may be sent, in bytes: the disk of a student is not for filling.
LARGEST_BLOB = 8 << 30
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")
_NONE: Mapping[str, str] = MappingProxyType({})
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d+)-(\d+)(?:/.*)?")


class LocalRegistry:
    """Il registro, acceso finché dura il ``with``; ``address`` è il nome da scrivere davanti alle immagini.

    I byte stanno in ``root``; con ``port=0`` la porta la sceglie il kernel.
    """

    def __init__(self, root: str, port: int = 0) -> None:
        self.root = os.path.abspath(root)
        with explained(f"preparare la cartella del registro «{self.root}»"):
            make_folder(self.root)
            self.blobs = Blobs(self.root)
            forget_uploads(self.root)
            self.blobs.sweep()
        with explained(f"aprire la porta {port} per il registro"):
            self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.registry = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="registry", daemon=True)

    @property
    def address(self) -> str:
        """``127.0.0.1:PORTA``."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LocalRegistry:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def shelf(self, repository: str) -> Shelf:
        return Shelf(self.root, self.blobs, repository)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    registry: LocalRegistry

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that goes away in the middle is nothing to write about on the student's terminal.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _RefusedError(Exception):
    """Una risposta d'errore della specifica: stato HTTP, codice, messaggio."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def _unknown(what: str) -> _RefusedError:
    return _RefusedError(404, f"{what}_UNKNOWN", "non c'è")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "labkit"
    sys_version = ""
    timeout = 60
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the terminal belongs to the student

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  (names of http.server)

    # ------------------------------------------------------------ dispatch

    def _serve(self) -> None:
        self._left = -1 if "chunked" in self.headers.get("Transfer-Encoding", "").lower() else self._length()
        try:
            self._route()
        except _RefusedError as refused:
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

    def _route(self) -> None:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if not is_local(host) or self.headers.get("Origin"):
            raise _RefusedError(403, "DENIED", "questo registro risponde solo ai programmi di questa macchina")
        parts = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = unquote(parts.path)
        if path in ("/v2", "/v2/"):
            self._reply(200, b"{}", "application/json")
        elif path == "/v2/_catalog" and self.command in ("GET", "HEAD"):
            self._listing("repositories", list(repositories(self.server.registry.root)), {})
        else:
            self._repository(path)

    def _repository(self, path: str) -> None:
        for pattern, methods in _ROUTES:
            match = pattern.fullmatch(path)
            if match:
                work = methods.get(self.command)
                if not work:
                    raise _RefusedError(405, "UNSUPPORTED", "qui questo metodo non si usa")
                name, *rest = match.groups()
                work(self, self.server.registry.shelf(name), *rest)
                return
        raise _RefusedError(404, "NAME_UNKNOWN", "questo indirizzo non è di un registro")

    # ------------------------------------------------------------ answers

    def _reply(self, status: int, body: bytes = b"", kind: str = "", headers: Mapping[str, str] = _NONE) -> None:
        self._finish_reading()
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

    def _error(self, status: int, code: str, message: str) -> None:
        body = write({"errors": [{"code": code, "message": message, "detail": None}]})
        self._reply(status, body, "application/json")

    def _finish_reading(self) -> None:
        """Ciò che del corpo non si è letto non deve sembrare la prossima domanda."""
        if self._left:
            self.close_connection = True

    def _body(self, most: int) -> Iterator[bytes]:
        """Il corpo della domanda, intero o a pezzi (RFC 9112, «Chunked Transfer Coding»)."""
        total = 0
        if self._left >= 0:
            if self._left > most:
                raise _RefusedError(413, "SIZE_INVALID", f"il massimo è {most} byte")
            while self._left:
                data = self.rfile.read(min(self._left, _PIECE))
                if not data:
                    raise ConnectionError
                self._left -= len(data)
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
                raise _RefusedError(413, "SIZE_INVALID", f"il massimo è {most} byte")
            while size:
                data = self.rfile.read(min(size, _PIECE))
                if not data:
                    raise ConnectionError
                size -= len(data)
                yield data
            if self.rfile.readline(128).strip():  # the line that ends a piece, or trailers that nobody sends
                raise ConnectionError
            if line.strip(b"0") == b"":
                self._left = 0
                return

    def _listing(self, key: str, names: list[str], more: dict[str, object]) -> None:
        """Un elenco, a pagine: ``n`` quanti, ``last`` dopo quale."""
        rest = [name for name in names if name > self.query.get("last", "")]
        count = int(self.query["n"]) if self.query.get("n", "").isdigit() else 1000
        page = rest[:count]
        path = urlsplit(self.path).path
        link = {"Link": f'<{path}?n={count}&last={page[-1]}>; rel="next"'} if page and len(rest) > len(page) else {}
        self._reply(200, write({**more, key: page}), "application/json", link)

    # ------------------------------------------------------------ manifests

    def tags(self, shelf: Shelf) -> None:
        if not shelf.exists:
            raise _unknown("NAME")
        self._listing("tags", shelf.tags(), {"name": shelf.repository})

    def get_manifest(self, shelf: Shelf, where: str) -> None:
        try:
            found = shelf.manifest(where)
        except InvalidError:  # no manifest can have such a name
            found = None
        if not found:
            raise _unknown("MANIFEST")
        digest, raw, kind = found
        self._reply(200, raw, kind, {"Docker-Content-Digest": str(digest)})

    def put_manifest(self, shelf: Shelf, where: str) -> None:
        raw = b"".join(self._body(LARGEST_DOCUMENT))
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        digest, subject = shelf.put_manifest(where, raw, kind)
        location = f"/v2/{shelf.repository}/manifests/{digest}"
        headers = {"Location": location, "Docker-Content-Digest": str(digest)}
        self._reply(201, headers=headers | ({"OCI-Subject": str(subject)} if subject else {}))

    def delete_manifest(self, shelf: Shelf, where: str) -> None:
        if not shelf.remove_manifest(where):
            raise _unknown("MANIFEST")
        self._reply(202)

    def referrers(self, shelf: Shelf, subject: str) -> None:
        found, wanted = shelf.referrers(Digest(subject)), self.query.get("artifactType")
        listed = [one.to_dict() for one in found if not wanted or one.artifact_type == wanted]
        headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        self._reply(200, write({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}), INDEX, headers)

    # ------------------------------------------------------------ blobs

    def get_blob(self, shelf: Shelf, text: str) -> None:
        digest = Digest(text)
        if not shelf.has_blob(digest):
            raise _unknown("BLOB")
        with open(shelf.blobs.path(digest), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            first, end = 0, size
            match = _RANGE.fullmatch(self.headers.get("Range", ""))
            if match:
                if match[3]:  # the last bytes
                    first = max(size - int(match[3]), 0)
                else:
                    first, end = int(match[1]), min(int(match[2] or size) + bool(match[2]), size)
                if first >= end:
                    self._reply(416, headers={"Content-Range": f"bytes */{size}"})
                    return
            self._finish_reading()
            self.send_response(206 if match else 200)
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - first),
                       "Docker-Content-Digest": str(digest), "Accept-Ranges": "bytes"}  # fmt: skip
            for name, value in headers.items():
                self.send_header(name, value)
            if match:
                self.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
            self.end_headers()
            if self.command != "HEAD" and first < end:
                self.connection.sendfile(file, first, end - first)

    def delete_blob(self, shelf: Shelf, digest: str) -> None:
        if not shelf.remove_blob(Digest(digest)):
            raise _unknown("BLOB")
        self._reply(202)

    # ------------------------------------------------------------ uploads

    def start_upload(self, shelf: Shelf) -> None:
        if "mount" in self.query:
            digest, source = Digest(self.query["mount"]), self.query.get("from")
            # Without a source any repository will do: on this machine nobody hides one from another.
            other = self.server.registry.shelf(source) if source else None
            if other.has_blob(digest) if other else shelf.blobs.size(digest) is not None:
                shelf.add_blob(digest)
                self._created(shelf, digest)
                return
        name = shelf.new_upload()
        if "digest" in self.query:  # everything in one request
            self._append(shelf, name, 0)
            self._finish(shelf, name)
        else:
            self._accepted(shelf, name, 0)

    def patch_upload(self, shelf: Shelf, name: str) -> None:
        size = self._size(shelf, name)
        span = self.headers.get("Content-Range", "")
        match = _CONTENT_RANGE.fullmatch(span)
        if span and (not match or int(match[1]) != size or self._left not in (-1, int(match[2]) + 1 - size)):
            raise _RefusedError(416, "BLOB_UPLOAD_INVALID", f"il prossimo byte è il {size}")
        self._accepted(shelf, name, self._append(shelf, name, size))

    def put_upload(self, shelf: Shelf, name: str) -> None:
        size = self._size(shelf, name)
        match = _CONTENT_RANGE.fullmatch(self.headers.get("Content-Range", ""))
        if match and int(match[1]) != size:
            raise _RefusedError(416, "BLOB_UPLOAD_INVALID", f"il prossimo byte è il {size}")
        self._append(shelf, name, size)
        self._finish(shelf, name)

    def upload_status(self, shelf: Shelf, name: str) -> None:
        self._accepted(shelf, name, self._size(shelf, name), status=204)

    def cancel_upload(self, shelf: Shelf, name: str) -> None:
        self._size(shelf, name)
        os.unlink(shelf.upload(name))
        self._reply(204)

    def _size(self, shelf: Shelf, name: str) -> int:
        try:
            return os.stat(shelf.upload(name)).st_size
        except FileNotFoundError:
            raise _unknown("BLOB_UPLOAD") from None

    def _append(self, shelf: Shelf, name: str, size: int) -> int:
        with explained("conservare ciò che arriva"), _opened(shelf.upload(name)) as fd:
            for piece in self._body(LARGEST_BLOB - size):
                write_all(fd, piece)
                size += len(piece)
        return size

    def _finish(self, shelf: Shelf, name: str) -> None:
        digest = Digest(self.query.get("digest", ""))
        shelf.finish_upload(name, digest)
        self._created(shelf, digest)

    def _created(self, shelf: Shelf, digest: Digest) -> None:
        location = f"/v2/{shelf.repository}/blobs/{digest}"
        self._reply(201, headers={"Location": location, "Docker-Content-Digest": str(digest)})

    def _accepted(self, shelf: Shelf, name: str, size: int, status: int = 202) -> None:
        location = f"/v2/{shelf.repository}/blobs/uploads/{name}"
        span = f"0-{max(size - 1, 0)}"
        self._reply(status, headers={"Location": location, "Range": span, "Docker-Upload-UUID": name})


@contextmanager
def _opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


_Work = Callable[..., None]
_H = _Handler
#: What each address answers, from the most precise (distribution-spec 1.1, «Endpoints»).
_ROUTES: tuple[tuple[re.Pattern[str], dict[str, _Work]], ...] = tuple(
    (re.compile(f"/v2/(.+)/{pattern}"), methods)
    for pattern, methods in (
        ("tags/list", {"GET": _H.tags, "HEAD": _H.tags}),
        ("referrers/([^/]+)", {"GET": _H.referrers}),
        ("manifests/([^/]+)", {"GET": _H.get_manifest, "HEAD": _H.get_manifest, "PUT": _H.put_manifest,
                               "DELETE": _H.delete_manifest}),
        ("blobs/uploads/?", {"POST": _H.start_upload}),
        ("blobs/uploads/([^/]+)", {"GET": _H.upload_status, "PATCH": _H.patch_upload, "PUT": _H.put_upload,
                                   "DELETE": _H.cancel_upload}),
        ("blobs/([^/]+)", {"GET": _H.get_blob, "HEAD": _H.get_blob, "DELETE": _H.delete_blob}),
    )
)  # fmt: skip
