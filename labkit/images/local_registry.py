"""Il registro del corso: un registro vero su questa macchina (OCI distribution-spec 1.1), per i client di tutti.

Ascolta solo su loopback e risponde solo a chi lo chiama per nome di questa macchina: una pagina web aperta
nel browser non può usarlo con un nome finto (DNS rebinding). Docker, Podman, skopeo e oras ci mandano e
ne prendono immagini.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit

from labkit.errors import InvalidError
from labkit.images.blobs import Blobs, write_all
from labkit.images.descriptor import INDEX, LARGEST_DOCUMENT, write
from labkit.images.digest import Digest
from labkit.images.disk import explained, make_folder
from labkit.images.local_registry_http import Exchange, QuietServer, RefusedError, unknown
from labkit.images.local_registry_shelf import Shelf, forget_uploads, repositories
from labkit.images.registry_origin import is_local

#: Largest blob that may be sent, in bytes: the disk of a student is not for filling.
LARGEST_BLOB = 8 << 30
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")
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
            self._server = RegistryServer(("127.0.0.1", port), _Handler)
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


class RegistryServer(QuietServer):
    """Il server, che sa di quale registro è."""

    registry: LocalRegistry


class _Handler(Exchange):
    server: RegistryServer

    # ------------------------------------------------------------ dispatch

    def route(self) -> None:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if not is_local(host) or self.headers.get("Origin"):
            raise RefusedError(403, "DENIED", "questo registro risponde solo ai programmi di questa macchina")
        parts = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = unquote(parts.path)
        if path in ("/v2", "/v2/"):
            self.reply(200, b"{}", "application/json")
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
                    raise RefusedError(405, "UNSUPPORTED", "qui questo metodo non si usa")
                name, *rest = match.groups()
                work(self, self.server.registry.shelf(name), *rest)
                return
        raise RefusedError(404, "NAME_UNKNOWN", "questo indirizzo non è di un registro")

    def _listing(self, key: str, names: list[str], more: dict[str, object]) -> None:
        """Un elenco, a pagine: ``n`` quanti, ``last`` dopo quale."""
        rest = [name for name in names if name > self.query.get("last", "")]
        count = int(self.query["n"]) if self.query.get("n", "").isdigit() else 1000
        page = rest[:count]
        path = urlsplit(self.path).path
        link = {"Link": f'<{path}?n={count}&last={page[-1]}>; rel="next"'} if page and len(rest) > len(page) else {}
        self.reply(200, write({**more, key: page}), "application/json", link)

    # ------------------------------------------------------------ manifests

    def tags(self, shelf: Shelf) -> None:
        if not shelf.exists:
            raise unknown("NAME")
        self._listing("tags", shelf.tags(), {"name": shelf.repository})

    def get_manifest(self, shelf: Shelf, where: str) -> None:
        try:
            found = shelf.manifest(where)
        except InvalidError:  # no manifest can have such a name
            found = None
        if not found:
            raise unknown("MANIFEST")
        digest, raw, kind = found
        self.reply(200, raw, kind, {"Docker-Content-Digest": str(digest)})

    def put_manifest(self, shelf: Shelf, where: str) -> None:
        raw = b"".join(self.body(LARGEST_DOCUMENT))
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip()
        digest, subject = shelf.put_manifest(where, raw, kind)
        location = f"/v2/{shelf.repository}/manifests/{digest}"
        headers = {"Location": location, "Docker-Content-Digest": str(digest)}
        self.reply(201, headers=headers | ({"OCI-Subject": str(subject)} if subject else {}))

    def delete_manifest(self, shelf: Shelf, where: str) -> None:
        if not shelf.remove_manifest(where):
            raise unknown("MANIFEST")
        self.reply(202)

    def referrers(self, shelf: Shelf, subject: str) -> None:
        found, wanted = shelf.referrers(Digest(subject)), self.query.get("artifactType")
        listed = [one.to_dict() for one in found if not wanted or one.artifact_type == wanted]
        headers = {"OCI-Filters-Applied": "artifactType"} if wanted else {}
        self.reply(200, write({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}), INDEX, headers)

    # ------------------------------------------------------------ blobs

    def get_blob(self, shelf: Shelf, text: str) -> None:
        digest = Digest(text)
        if not shelf.has_blob(digest):
            raise unknown("BLOB")
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
                    self.reply(416, headers={"Content-Range": f"bytes */{size}"})
                    return
            self.finish_reading()
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
            raise unknown("BLOB")
        self.reply(202)

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
        if span and (not match or int(match[1]) != size or self.left not in (-1, int(match[2]) + 1 - size)):
            raise RefusedError(416, "BLOB_UPLOAD_INVALID", f"il prossimo byte è il {size}")
        self._accepted(shelf, name, self._append(shelf, name, size))

    def put_upload(self, shelf: Shelf, name: str) -> None:
        size = self._size(shelf, name)
        match = _CONTENT_RANGE.fullmatch(self.headers.get("Content-Range", ""))
        if match and int(match[1]) != size:
            raise RefusedError(416, "BLOB_UPLOAD_INVALID", f"il prossimo byte è il {size}")
        self._append(shelf, name, size)
        self._finish(shelf, name)

    def upload_status(self, shelf: Shelf, name: str) -> None:
        self._accepted(shelf, name, self._size(shelf, name), status=204)

    def cancel_upload(self, shelf: Shelf, name: str) -> None:
        self._size(shelf, name)
        os.unlink(shelf.upload(name))
        self.reply(204)

    def _size(self, shelf: Shelf, name: str) -> int:
        try:
            return os.stat(shelf.upload(name)).st_size
        except FileNotFoundError:
            raise unknown("BLOB_UPLOAD") from None

    def _append(self, shelf: Shelf, name: str, size: int) -> int:
        with explained("conservare ciò che arriva"), _opened(shelf.upload(name)) as fd:
            for piece in self.body(LARGEST_BLOB - size):
                write_all(fd, piece)
                size += len(piece)
        return size

    def _finish(self, shelf: Shelf, name: str) -> None:
        digest = Digest(self.query.get("digest", ""))
        shelf.finish_upload(name, digest)
        self._created(shelf, digest)

    def _created(self, shelf: Shelf, digest: Digest) -> None:
        location = f"/v2/{shelf.repository}/blobs/{digest}"
        self.reply(201, headers={"Location": location, "Docker-Content-Digest": str(digest)})

    def _accepted(self, shelf: Shelf, name: str, size: int, status: int = 202) -> None:
        location = f"/v2/{shelf.repository}/blobs/uploads/{name}"
        span = f"0-{max(size - 1, 0)}"
        self.reply(status, headers={"Location": location, "Range": span, "Docker-Upload-UUID": name})


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
