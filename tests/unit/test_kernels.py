"""Un kernel si prende dai pacchetti senza essere root: archivio, cache, moduli, ELF. Niente rete: apt è finto."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import shutil
import subprocess
import tarfile
import threading
import zlib
from pathlib import Path

import pytest

from labkit.backends import deb, kernels, modules, packages, vmlinux
from labkit.errors import BackendError

VERSION = "6.1.99"


def ar(*members: tuple[str, bytes]) -> bytes:
    out = bytearray(deb.AR_MAGIC)
    for name, data in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    return bytes(out)


def tar(files: dict[str, bytes], *special: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755 if "/bin/" in name else 0o644
            archive.addfile(info, io.BytesIO(data))
        for info in special:
            archive.addfile(info)
    return buffer.getvalue()


def debian(files: dict[str, bytes], *special: tarfile.TarInfo) -> bytes:
    data = lzma.compress(tar(files, *special))
    return ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", data))


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress), ("", bytes)], ids=["xz", "gz", "plain"]
)
def test_a_package_is_read_whatever_its_compression(tmp_path: Path, suffix: str, compress: object) -> None:
    assert callable(compress)
    package = tmp_path / "a.deb"
    package.write_bytes(ar(("debian-binary", b"2.0\n"), ("data.tar" + suffix, compress(tar({"./usr/bin/p": b"ciao"})))))
    assert deb.unpack(package, tmp_path / "out", lambda path: path == "usr/bin/p") == ["usr/bin/p"]
    assert (tmp_path / "out/usr/bin/p").read_bytes() == b"ciao"
    assert os.access(tmp_path / "out/usr/bin/p", os.X_OK)


@pytest.mark.skipif(shutil.which("zstd") is None, reason="serve zstd")
def test_a_package_compressed_with_zstd_is_read(tmp_path: Path) -> None:
    data = subprocess.run(["zstd", "-qc"], input=tar({"./f": b"x" * 70000}), capture_output=True, check=True).stdout
    package = tmp_path / "a.deb"
    package.write_bytes(ar(("data.tar.zst", data)))
    assert deb.unpack(package, tmp_path, lambda path: True) == ["f"]
    assert (tmp_path / "f").stat().st_size == 70000


def test_without_zstd_the_answer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb.importlib, "import_module", _no_module)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BackendError, match="sudo apt-get install zstd"):
        deb.unzstd(b"")


def _no_module(name: str) -> None:
    raise ImportError(name)


def test_links_and_paths_that_climb_never_reach_the_disk(tmp_path: Path) -> None:
    link = tarfile.TarInfo("./usr/bin/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    package = tmp_path / "a.deb"
    package.write_bytes(debian({"../fuori": b"no", "/assoluto": b"no", "./a/../../fuori2": b"no", "./ok": b"si"}, link))
    into = tmp_path / "out"
    assert deb.unpack(package, into, lambda path: True) == ["ok"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.deb", "ok", "out"]


@pytest.mark.parametrize("content", [b"", b"not a package", deb.AR_MAGIC, ar(("debian-binary", b"2.0\n"))])
def test_a_broken_package_is_an_italian_sentence(tmp_path: Path, content: bytes) -> None:
    package = tmp_path / "a.deb"
    package.write_bytes(content)
    with pytest.raises(BackendError, match="scaricalo di nuovo"):
        deb.unpack(package, tmp_path / "out", lambda path: True)


def module(*needs: str) -> bytes:
    return b"\x7fELF..\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0"


UML_FILES = {
    "./usr/bin/linux.uml": b"#!/bin/sh\necho " + VERSION.encode() + b"\n",
    **{
        f"./usr/lib/uml/modules/{VERSION}/kernel/{name}.ko": data
        for name, data in {
            "fs/overlay": module(),
            "net/veth": module(),
            "net/bridge": module("stp", "llc"),
            "net/802/stp": module("llc"),
            "net/llc": module(),
            "sound/useless": module(),
        }.items()
    },
    "./usr/share/doc/README": b"no",
}


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Un apt finto che conosce un pacchetto; ``downloads`` conta quante volte lo si è scaricato."""
    for name in ("LABKIT_UML", "LABKIT_KERNEL", "LABKIT_MODULES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = tmp_path / "store.deb"
    store.write_bytes(debian(UML_FILES))
    digest = hashlib.sha256(store.read_bytes()).hexdigest()
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    record = f"Package: user-mode-linux\nVersion: 1:6.1um4\nSize: {store.stat().st_size}\nSHA256: {digest}\n"
    program(bin_ / "apt-cache", f'[ "$3" = user-mode-linux ] || exit 100\ncat <<END\n{record}END\n')
    program(bin_ / "apt-get", f"echo x >> {tmp_path}/downloads; sleep 0.2; cp {store} user-mode-linux_1_amd64.deb\n")
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
    if shutil.which("linux.uml"):
        pytest.skip("qui linux.uml è installato")
    return tmp_path


def program(path: Path, body: str) -> None:
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)


def test_the_first_time_it_is_downloaded_saying_so_then_it_is_in_the_cache(apt: Path) -> None:
    said: list[str] = []
    assert kernels.available()["uml"] is False
    first = kernels.uml(said.append)
    assert said[0].startswith("scarico il pacchetto user-mode-linux (0 MB)")
    assert first.version == VERSION
    assert kernels.uml() == first
    assert kernels.available()["uml"] is True
    assert (apt / "downloads").read_text() == "x\n"
    names = {path.name for path in Path(first.modules).rglob("*.ko")}
    assert names == {"overlay.ko", "veth.ko", "bridge.ko", "stp.ko", "llc.ko"}  # what nobody needs is not kept
    index = Path(first.modules, "modules.dep").read_text()  # the guest loads from it, without modprobe
    assert "kernel/net/bridge.ko: kernel/net/802/stp.ko kernel/net/llc.ko\n" in index
    folder = packages.cached("uml")
    assert folder is not None
    assert folder.name.startswith("uml_1%3a6.1um4_")
    assert [path.name for path in folder.parent.iterdir() if path.name != ".lock"] == [folder.name]


def test_two_laboratories_at_once_download_once(apt: Path) -> None:
    found: list[kernels.UmlKernel] = []
    said: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(kernels.uml(said.append))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert (apt / "downloads").read_text() == "x\n"


def test_a_download_that_is_not_the_one_of_the_index_is_not_opened(apt: Path) -> None:
    (apt / "store.deb").write_bytes(debian({"./usr/bin/linux.uml": b"altro"}))
    with pytest.raises(BackendError, match="non è quello dell'indice"):
        kernels.uml()
    assert packages.cached("uml") is None


def test_what_a_killed_download_left_is_taken_away(apt: Path) -> None:
    forgotten = packages.cache() / ".nuovo-morto"
    forgotten.mkdir(parents=True)
    kernels.uml()
    assert not forgotten.exists()


def test_an_index_without_the_package_says_the_command(apt: Path) -> None:
    program(apt / "bin/apt-cache", "exit 100\n")
    with pytest.raises(BackendError, match=r"sudo apt-get update.*LABKIT_UML"):
        kernels.uml()


def test_a_download_that_fails_tells_the_reason_of_apt(apt: Path) -> None:
    program(apt / "bin/apt-get", 'echo "E: Failed to fetch http://x 404" >&2; exit 100\n')
    with pytest.raises(BackendError, match=r"Failed to fetch.*sudo apt-get install user-mode-linux"):
        kernels.uml()


def test_without_apt_a_kernel_can_be_given_by_hand(apt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(apt / "nothing"))
    with pytest.raises(BackendError, match="export LABKIT_UML="):
        kernels.uml()
    mine = apt / "mine"
    program(mine, f"echo {VERSION}\n")
    monkeypatch.setenv("LABKIT_UML", str(mine))
    with pytest.raises(BackendError, match="export LABKIT_MODULES="):
        kernels.uml()
    folder = apt / "m" / VERSION
    folder.mkdir(parents=True)
    for given in (folder, folder.parent):
        monkeypatch.setenv("LABKIT_MODULES", str(given))
        assert kernels.uml() == kernels.UmlKernel(str(mine), str(folder), VERSION)


@pytest.mark.parametrize("body", ["echo 'libc.so.6: version GLIBC_2.34 not found' >&2; exit 1", "echo altro"])
def test_a_program_that_is_not_a_kernel_is_refused(apt: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    program(apt / "mine", body)
    monkeypatch.setenv("LABKIT_UML", str(apt / "mine"))
    with pytest.raises(BackendError, match=r"non va su questa macchina: (libc|non dice)"):
        kernels.uml()


def test_ubuntu_keeps_image_and_modules_in_different_packages(apt: Path) -> None:
    program(
        apt / "bin/apt-cache",
        'case "$3" in\n'
        'linux-image-generic) D="linux-image-6.8.0-49-generic, linux-modules-extra-6.8.0-49-generic, altro";;\n'
        'linux-image-6*) D="kmod, linux-base (>= 4.5), linux-modules-6.8.0-49-generic";;\n'
        "linux-modules*) D=;;\n*) exit 100;;\nesac\n"
        'printf "Package: %s\\nVersion: 6.8\\nSize: 1\\nSHA256: AA\\nDepends: %s\\n" "$3" "$D"\n',
    )
    assert [package.name for package in kernels._concrete(["linux-image-generic"])] == [
        "linux-image-6.8.0-49-generic",
        "linux-modules-extra-6.8.0-49-generic",
        "linux-modules-6.8.0-49-generic",
    ]


def tree(base: Path, files: dict[str, bytes]) -> Path:
    folder = base / VERSION
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("index", [False, True])
def test_a_module_comes_after_what_it_needs(tmp_path: Path, index: bool) -> None:
    files = {
        "kernel/bridge.ko.xz": lzma.compress(module("stp", "llc", "crc-ccitt")),
        "kernel/stp.ko": module("llc"),
        "kernel/llc.ko.gz": gzip.compress(module()),
        "kernel/libcrc32c.ko": module(),
        "kernel/crc32c_generic.ko": module(),
        "kernel/nf_tables.ko": module("libcrc32c"),
        "modules.builtin": b"kernel/lib/crc-ccitt.ko\nkernel/drivers/virtio/virtio.ko\n",
    }
    if index:  # the same facts, from depmod
        files["modules.dep"] = (
            b"kernel/bridge.ko.xz: kernel/stp.ko kernel/llc.ko.gz\nkernel/stp.ko: kernel/llc.ko.gz\n"
            b"kernel/llc.ko.gz:\nkernel/nf_tables.ko: kernel/libcrc32c.ko\nkernel/libcrc32c.ko:\n"
        )
    found = modules.Modules(tree(tmp_path, files))
    assert [modules.stem(str(path)) for path in found.order(["bridge", "virtio", "nf-tables"])] == [
        "llc", "stp", "bridge", "crc32c_generic", "libcrc32c", "nf_tables",
    ]  # fmt: skip
    assert found.available(["virtio", "bridge", "niente"]) == ["virtio", "bridge"]
    with pytest.raises(BackendError, match="Il modulo «niente» non c'è"):
        found.order(["niente"])


def bzimage(payload: bytes) -> bytes:
    setup = bytearray(4 * 512 + 512)
    setup[0x1F1] = 4
    setup[0x202:0x206] = b"HdrS"
    setup[0x20E:0x210] = (0x300).to_bytes(2, "little")
    setup[0x500 : 0x500 + 30] = b"6.1.0-9-amd64 (debian) #1 SMP\0"
    setup[0x248:0x24C] = (64).to_bytes(4, "little")
    setup[0x24C:0x250] = len(payload).to_bytes(4, "little")
    return bytes(setup) + bytes(64) + payload + bytes(100)


ELF = b"\x7fELF" + b"Linux version 6.1.0-9-amd64 (x)" + bytes(range(256)) * 400
SIZE = len(ELF).to_bytes(4, "little")


def _lz4_legacy(data: bytes) -> bytes:
    done = subprocess.run(["lz4", "-l", "-qc"], input=data, capture_output=True, check=True)
    return done.stdout


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc"], input=data, capture_output=True, check=True).stdout


def _gzip(data: bytes) -> bytes:
    work = zlib.compressobj(wbits=31)
    return work.compress(data) + work.flush()


@pytest.mark.parametrize(
    ("compress", "needs"),
    [(lzma.compress, ""), (_gzip, ""), (_zstd, "zstd"), (_lz4_legacy, "lz4")],
    ids=["xz", "gzip", "zstd", "lz4"],
)
def test_the_elf_comes_out_of_its_image(tmp_path: Path, compress: object, needs: str) -> None:
    assert callable(compress)
    if needs and shutil.which(needs) is None:
        pytest.skip(f"serve {needs}")
    assert vmlinux.extract(bzimage(compress(ELF) + SIZE)) == ELF


def test_an_lz4_match_may_read_what_it_is_writing() -> None:
    # token: 1 literal, match of 4+15+3; then 20 literals (15+5) and no match
    block = bytes([0x1F, ord("a"), 1, 0, 3, 0xF0, 5]) + b"b" * 20
    payload = b"\x02\x21\x4c\x18" + len(block).to_bytes(4, "little") + block + (99).to_bytes(4, "little")
    assert vmlinux.lz4(payload) == b"a" * 23 + b"b" * 20


def test_the_extracted_kernel_is_kept_and_knows_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    image = tmp_path / "vmlinuz"
    image.write_bytes(bzimage(lzma.compress(ELF) + SIZE))
    said: list[str] = []
    found = vmlinux.elf(image, said.append)
    assert found.read_bytes() == ELF
    assert (vmlinux.elf(image, said.append), len(said)) == (found, 1)
    assert vmlinux.elf(found) == found  # already an ELF: nothing to do
    assert vmlinux.release(image) == vmlinux.release(found) == "6.1.0-9-amd64"


@pytest.mark.parametrize(
    "image", [bytes(5000), bzimage(b"????" + bytes(40)), bzimage(lzma.compress(b"non ELF") + SIZE)]
)
def test_what_is_not_a_kernel_is_refused_in_italian(image: bytes) -> None:
    with pytest.raises(BackendError, match="LABKIT_KERNEL"):
        vmlinux.extract(image)
