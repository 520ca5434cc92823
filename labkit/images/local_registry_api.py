"""Che cosa risponde il registro del corso a ogni domanda (OCI distribution-spec 1.1, «API»).

Risponde solo a chi lo chiama per nome di questa macchina, o per l'indirizzo dato alla classe: una pagina web aperta
nel browser non può usarlo con un nome finto (DNS rebinding). Scrive solo chi sta su questa macchina.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from labkit.errors import InvalidError
from labkit.images.blobs import write_all
from labkit.images.descriptor import INDEX, LARGEST_DOCUMENT, write
from labkit.images.digest import Digest
from labkit.images.disk import explained
from labkit.images.local_registry_http import Exchange, QuietServer, RefusedError, unknown
from labkit.images.local_registry_log import Request
from labkit.images.local_registry_shelf import Shelf, repositories
from labkit.images.registry_origin import is_local

if TYPE_CHECKING:
    from labkit.images.local_registry import LocalRegistry

#: Largest blob that may be sent, in bytes: the disk of a student is not for filling.
LARGEST_BLOB = 8 << 30
_RANGE = re.compile(r"bytes=(?:(\d+)-(\d*)|-(\d+))")
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d+)-(\d+)(?:/.*)?")


class RegistryServer(QuietServer):
    """Il server, che sa di quale registro è."""

    def __init__(self, address: tuple[str, int], registry: LocalRegistry) -> None:
        self.registry = registry
        super().__init__(address, _Handler)


class _Handler(Exchange):
    server: RegistryServer

    def began(self) -> None:
        self.server.registry.requests.began()

    def ended(self) -> None:
        client = str(self.client_address[0])
        asked = Request(client, self.command, self.path, self.status, self.received, self.sent)
        self.server.registry.requests.ended(asked)

    # ------------------------------------------------------------ dispatch

    def route(self) -> None:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        if not self._called_by_name(host) or self.headers.get("Origin"):
            raise RefusedError(403, "DENIED", "questo registro risponde solo a chi lo chiama con il suo indirizzo")
        if self.command not in ("GET", "HEAD") and not is_local(str(self.client_address[0])):
            raise RefusedError(403, "DENIED", "da questa rete il registro si legge e basta")
        parts = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = unquote(parts.path)
        if path in ("/v2", "/v2/"):
            self.reply(200, b"{}", "application/json")
        elif path == "/v2/_catalog" and self.command in ("GET", "HEAD"):
            self._listing("repositories", list(repositories(self.server.registry.root)), {})
        else:
            self._repository(path)

    def _called_by_name(self, host: str) -> bool:
        """Un nome finto non passa: solo i nomi di loopback e, per una classe, un indirizzo a cifre o quello dato."""
        given = self.server.registry.host
        if is_local(host) or not given:
            return is_local(host)
        try:
            return bool(ipaddress.ip_address(host))
        except ValueError:
            return host == given.lower()

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
        with self.server.registry.changing():
            digest, subject = shelf.put_manifest(where, raw, kind)
        location = f"/v2/{shelf.repository}/manifests/{digest}"
        headers = {"Location": location, "Docker-Content-Digest": str(digest)}
        self.reply(201, headers=headers | ({"OCI-Subject": str(subject)} if subject else {}))

    def delete_manifest(self, shelf: Shelf, where: str) -> None:
        if not self.server.registry.delete(shelf, where):
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
                try:
                    self.connection.sendfile(file, first, end - first)
                finally:  # however it ends, the file is where the last byte sent was
                    self.sent += max(file.tell() - first, 0)

    def delete_blob(self, shelf: Shelf, digest: str) -> None:
        if not shelf.remove_blob(Digest(digest)):
            raise unknown("BLOB")
        self.server.registry.reclaim(shelf.repository, {Digest(digest)})
        self.reply(202)

    # ------------------------------------------------------------ uploads

    def start_upload(self, shelf: Shelf) -> None:
        if "mount" in self.query:
            digest, source = Digest(self.query["mount"]), self.query.get("from")
            # Without a source any repository will do: on this machine nobody hides one from another.
            other = self.server.registry.shelf(source) if source else None
            with self.server.registry.changing():
                known = other.has_blob(digest) if other else shelf.blobs.size(digest) is not None
                if known:
                    shelf.add_blob(digest)
            if known:
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
        with self.server.registry.changing():
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
