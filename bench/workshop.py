"""The bench's own folder: the compiled programs and the root file system that every competitor starts.

Everything the bench writes lives under one temporary directory and ends with it.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent

_FIRST_FLAGS = ("-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector")


class MissingCompilerError(Exception):
    """Non c'è un compilatore C: si installa con «sudo apt install gcc libc6-dev»."""


class Workshop:
    """A temporary directory with ``rootfs/bin/first`` and ``rootfs/bin/stay`` in it, readable by every user."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="labkit-bench-"))
        self.path.chmod(0o755)
        self.rootfs = self.path / "rootfs"
        for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "run", "root"):
            (self.rootfs / name).mkdir(parents=True)
        compile_c("first", self.rootfs / "bin/first", *_FIRST_FLAGS)
        compile_c("first", self.rootfs / "bin/stay", *_FIRST_FLAGS, "-DSTAY")

    def directory(self, name: str) -> Path:
        """A new directory of the workshop."""
        path = self.path / name
        path.mkdir()
        return path

    def archive(self) -> Path:
        """The root file system as a tar file, as ``docker import`` wants it."""
        path = self.path / "rootfs.tar"
        if not path.exists():
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                tar.add(self.rootfs, arcname=".")
            path.write_bytes(buffer.getvalue())
        return path

    def close(self) -> None:
        shutil.rmtree(self.path)


def compile_c(name: str, output: Path, *flags: str) -> None:
    """Compile ``bench/NAME.c`` into ``output``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise MissingCompilerError(MissingCompilerError.__doc__)
    subprocess.run([compiler, *(flags or ("-O2",)), "-o", str(output), str(SOURCES / f"{name}.c")], check=True)
