"""Un registro, verbo per verbo (OCI distribution-spec 1.1): manifesti, blob, invii.

Ogni cosa che arriva ha una misura massima e, se si sa prima, un'impronta; i manifesti tornano già
controllati, i blob li controlla chi li conserva. Gli errori dicono che cosa fare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode, urljoin

from labkit.errors import InvalidError
from labkit.images import descriptor as media
from labkit.images.descriptor import LARGEST_DOCUMENT, Descriptor, document
from labkit.images.digest import Digest
from labkit.images.reference import DEFAULT_REGISTRY, Reference
from labkit.images.registry_auth import Authorizer, Credentials, stored_credentials
from labkit.images.registry_origin import Origin, PassingError, RegistryError, check_move, is_local
from labkit.images.registry_transport import Answer, Transport

_HUB = "registry-1.docker.io"
_ACCEPT = ", ".join((media.MANIFEST, media.INDEX, media.DOCKER_MANIFEST, media.DOCKER_INDEX))


def base_url(registry: str, plain: bool = False) -> str:
    """Dove risponde un registro: https, e http solo se è questa macchina (o se chi lo usa lo ha scelto: ``plain``).

    >>> base_url("127.0.0.1:5000")
    'http://127.0.0.1:5000'
    """
    host = _HUB if registry == DEFAULT_REGISTRY else registry
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return f"{'http' if plain or is_local(name.strip('[]')) else 'https'}://{host}"


class Registry:
    """Un registro e le credenziali per usarlo; si può usare da più thread.

    ``url`` è un altro posto che risponde al suo posto (uno specchio): a lui le credenziali non vanno. ``plain``
    vuol dire che chi lo usa sa che il registro parla in chiaro, come quello di una classe: neanche lì ci vanno.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str = "",
        plain: bool = False,
        credentials: Credentials | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.name, self.url = name, (url or base_url(name, plain)).rstrip("/")
        self.transport = transport or Transport()
        origin = Origin.of(self.url)
        clear = origin.scheme == "http" and not origin.local
        if clear and not plain:
            raise InvalidError(
                f"«{self.url}» è in chiaro: http va bene solo per questa macchina.", f"https://{origin.host}"
            )
        self._origin = origin
        known = credentials or (None if url or clear else stored_credentials(name))
        self._authorizer = Authorizer(self.transport, origin, known)

    def check(self) -> None:
        """Chiede al registro se risponde e se sa chi siamo (distribution-spec, «Determining Support»)."""
        url = f"{self.url}/v2/"
        for attempt in range(2):
            with self.transport.patiently("GET", url, {}, secret=self._authorizer.header("")) as answer:
                if answer.status == 401 and not attempt and self._authorizer.answer(answer, ""):
                    continue
                if answer.status != 200:
                    raise self._refusal(answer, self.name)
                return

    # ------------------------------------------------------------ manifests

    def manifest(self, reference: Reference, wanted: Descriptor | Digest | None = None) -> tuple[bytes, str]:
        """Un manifesto o un indice, e il suo tipo; i byte sono quelli di ``wanted`` o dell'impronta del nome."""
        digest = wanted.digest if isinstance(wanted, Descriptor) else wanted or reference.digest
        where = str(digest) if digest else reference.tag
        with self._do("GET", reference.repository, f"manifests/{where}", {"Accept": _ACCEPT}) as answer:
            if answer.status != 200:
                raise self._refusal(answer, reference)
            raw, kind = answer.read(LARGEST_DOCUMENT), answer.headers.get("Content-Type", "")
            declared = answer.headers.get("Docker-Content-Digest", "")
        promised = digest or (Digest(declared) if declared.startswith("sha256:") else None)
        if promised:
            hasher = promised.hasher()
            hasher.update(raw)
            if Digest.from_hasher(hasher) != promised:
                raise InvalidError(
                    f"Il registro {self.name} ha mandato un manifesto che non è quello promesso: {promised}."
                )
        if isinstance(wanted, Descriptor) and len(raw) != wanted.size:
            raise InvalidError(f"Il manifesto {wanted.digest} doveva avere {wanted.size} byte, e ne ha {len(raw)}.")
        document(raw, "il manifesto")
        return raw, kind

    def put_manifest(self, reference: Reference, raw: bytes, media_type: str) -> Digest:
        """Manda un manifesto, con il tag o l'impronta del nome."""
        where = reference.tag or str(reference.digest)
        headers = {"Content-Type": media_type}
        with self._do("PUT", reference.repository, f"manifests/{where}", headers, raw, push=True) as answer:
            if answer.status != 201:
                raise self._refusal(answer, reference)
            declared = answer.headers.get("Docker-Content-Digest", "")
        digest = Digest.of(raw)
        if declared and declared != str(digest):
            raise InvalidError(
                f"Il registro {self.name} dice di aver conservato {declared}, e il manifesto è {digest}."
            )
        return digest

    def tags(self, repository: str) -> tuple[str, ...]:
        """I tag di un deposito, in ordine (al massimo diecimila)."""
        found: list[str] = []
        path = "tags/list"
        while path and len(found) < 10_000:
            with self._do("GET", repository, path, {}) as answer:
                if answer.status != 200:
                    raise self._refusal(answer, repository)
                listed = document(answer.read(LARGEST_DOCUMENT), "l'elenco dei tag").get("tags") or []
                more = answer.headers.get("Link", "")
            new = [tag for tag in listed if isinstance(tag, str)]
            # Only the position is taken from the answer: the address of the next page is ours.
            path = f"tags/list?{urlencode({'last': new[-1]})}" if new and 'rel="next"' in more else ""
            found += new
        return tuple(found)

    # ------------------------------------------------------------ blobs

    def open_blob(self, repository: str, blob: Descriptor, offset: int = 0) -> tuple[Answer, int]:
        """Un blob da ``offset`` in poi; torna anche da dove comincia davvero (0 se il registro non sa riprendere)."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        answer = self._do("GET", repository, f"blobs/{blob.digest}", headers)
        if answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            return answer, offset
        if answer.status == 200:
            return answer, 0
        with answer:
            if answer.status in (206, 416):  # it cannot go on from there: from the beginning
                return self.open_blob(repository, blob)
            raise self._refusal(answer, repository)

    def has_blob(self, repository: str, blob: Descriptor) -> bool:
        with self._do("HEAD", repository, f"blobs/{blob.digest}", {}, push=True) as answer:
            if answer.status not in (200, 404):
                raise self._refusal(answer, repository)
            return answer.status == 200

    def start_upload(self, repository: str, blob: Descriptor, source: str = "") -> str:
        """Comincia un invio; torna dove mandare i byte, o vuoto se il registro li ha presi da ``source``."""
        query = f"?{urlencode({'mount': str(blob.digest), 'from': source})}" if source else ""
        path = f"blobs/uploads/{query}"
        with self._do("POST", repository, path, {"Content-Length": "0"}, push=True, source=source) as answer:
            if answer.status == 201 and source:
                return ""
            if answer.status != 202:
                raise self._refusal(answer, repository)
            location = urljoin(answer.url, answer.headers.get("Location", ""))
        check_move(self._origin, Origin.of(location), "un invio")
        return location

    def finish_upload(self, repository: str, blob: Descriptor, location: str, content: Iterable[bytes]) -> None:
        """Manda i byte in una volta sola (distribution-spec, «POST then PUT»)."""
        url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': str(blob.digest)})}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        same = Origin.of(url) == self._origin
        secret = self._authorizer.header(_scope(repository, True)) if same else ""
        with self.transport.request("PUT", url, headers, secret=secret, body=content) as answer:
            if answer.status != 201:
                raise self._refusal(answer, repository)

    # ------------------------------------------------------------ one request

    def _do(
        self,
        method: str,
        repository: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        push: bool = False,
        source: str = "",
    ) -> Answer:
        url, scope = f"{self.url}/v2/{quote(repository)}/{path}", _scope(repository, push, source)
        for attempt in range(2):
            secret = self._authorizer.header(scope)
            answer = self.transport.patiently(method, url, headers, secret=secret, body=body)
            if answer.status != 401 or attempt:
                break
            with answer:
                again = self._authorizer.answer(answer, scope)
                if not again:
                    raise self._refusal(answer, repository)
        return answer

    def _refusal(self, answer: Answer, what: Reference | str) -> RegistryError:
        """Perché il registro ha detto di no, e che cosa si può fare."""
        name = what.familiar if isinstance(what, Reference) else what
        said = answer.reason()
        status, host = answer.status, self.name
        tail = f" Dice: «{said}»." if said else ""
        if status in (401, 403):
            why = f"Il registro {host} non ti lascia usare «{name}»: o non esiste, o bisogna dire chi sei.{tail}"
            return RegistryError(why, f"labkit login {'' if host == DEFAULT_REGISTRY else host}".strip(), status)
        if status == 404:
            return RegistryError(f"Nel registro {host} non c'è «{name}».{tail}", "controlla il nome e il tag", status)
        if status == 429:
            wait = answer.headers.get("Retry-After", "")
            when = f"fra {wait} secondi" if wait.isdigit() else "più tardi"
            return RegistryError(
                f"Il registro {host} per adesso non ti dà altro: hai raggiunto il limite di download.{tail}",
                f"riprova {when}; con un account il limite è più alto: labkit login",
                status,
            )
        kind = PassingError if status >= 500 else RegistryError
        return kind(f"Il registro {host} risponde {status} per «{name}».{tail}", "riprova fra poco", status)


def _scope(repository: str, push: bool, source: str = "") -> str:
    other = f" repository:{source}:pull" if source else ""
    return f"repository:{repository}:pull{',push' if push else ''}{other}"
