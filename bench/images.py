"""Quanto ci mettono le immagini: prenderle, mandarle, costruirle, conservarle. Accanto a skopeo, umoci e docker.

Uso, da root: ``python bench/images.py [--rounds N] [--json]``. Stesse immagini, stesso registro su loopback, un giro
solo alternato; contano i rapporti fra le mediane. Chi manca si salta, e si dice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a file, it finds its own package

from bench.cgroups import OwnCgroup
from bench.samples import Goal
from bench.scratch_docker import ScratchDocker
from bench.tables import goals_table, number
from labkit import Lab
from labkit.client.images import Images
from labkit.client.registry import CourseRegistry
from labkit.images.archive import add_layer
from labkit.images.config import History
from labkit.images.image import Image
from labkit.images.pack import tree
from labkit.images.reference import parse
from labkit.images.registry_push import push

#: One thing to time: seconds, of what matters only.
Turn = Callable[[], float]

FILES = 10_000
RECIPE = """FROM {base}
COPY libreria /libreria
RUN echo uno > /uno
RUN rm /uno && echo due > /due
ENV COLORE=verde
CMD ["cat", "/due"]
"""
WRITE = f"mkdir /molti; i=0; while [ $i -lt {FILES} ]; do echo $i > /molti/$i; i=$((i+1)); done"


class Bench:
    """Ciò che tutti si dividono: il registro, le immagini, un laboratorio, un Docker."""

    def __init__(self, stack: ExitStack) -> None:
        self.home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lk-bench-")))
        os.environ["LABKIT_IMAGES"] = str(self.home / "immagini")
        self.registry = stack.enter_context(CourseRegistry(str(self.home / "registro")))
        self.images = Images()
        self.name = self.registry.name("bench/libreria:1")
        self.base = self.registry.name("bench/busybox:1")
        self._make()
        self.lab = stack.enter_context(Lab(backend="direct"))
        stack.callback(self._clear_layers)
        group = OwnCgroup()
        stack.callback(group.close)
        (self.home / "docker").mkdir()
        self.docker = ScratchDocker(self.home / "docker", group.name)
        stack.callback(self.docker.close)
        self.count = 0

    def _make(self) -> None:
        """Un busybox, e sopra la libreria di Python: qualche decina di megabyte in migliaia di file."""
        root = self.home / "radice"
        (root / "bin").mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox, "sudo apt install busybox-static"
        shutil.copy(busybox, root / "bin/busybox")
        for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
            if applet != "busybox":
                (root / "bin" / applet).symlink_to("busybox")
        store = self.images.store
        with store.writing():
            image = Image.empty().append(add_layer(store, tree(str(root))), History(created_by="busybox"))
            image = image.with_process(History(empty_layer=True), Cmd=["sh"], Env=["PATH=/bin"])
            store.put(image, parse(self.base))
            library = add_layer(store, tree(sysconfig.get_path("stdlib")))
            store.put(image.append(library, History(created_by="libreria")), parse(self.name))
        for name in (self.base, self.name):
            push(store, name)
        context = self.home / "contesto"
        shutil.copytree(sysconfig.get_path("stdlib") + "/asyncio", context / "libreria")
        (context / "Containerfile").write_text(RECIPE.format(base=self.base))

    def _clear_layers(self) -> None:
        with self.lab.process() as root:
            root.run(["rm", "-rf", f"{self.images.store.root}/layers"], quiet=True)

    def run(self, *argv: object) -> None:
        subprocess.run([*map(str, argv)], check=True, capture_output=True)

    def dock(self, *argv: object) -> str:
        command = ["docker", "-H", self.docker.address, *map(str, argv)]
        return subprocess.run(command, check=True, capture_output=True, text=True,
                              env={**os.environ, "DOCKER_BUILDKIT": "0"}).stdout  # fmt: skip

    def fresh(self, what: str) -> Path:
        self.count += 1
        return self.home / f"{what}{self.count}"


def timed(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


# ---------------------------------------------------------------- pull and unpack


def pull_labkit(bench: Bench) -> float:
    from labkit.images.layers import Layers, Unpacking
    from labkit.images.registry_pull import pull
    from labkit.images.store import Store

    folder = bench.fresh("vuota")

    def work() -> None:
        store = Store(str(folder))
        image = store.image(pull(store, parse(bench.name)))
        with Layers(store, Unpacking("bench", userxattr=False)).use(image):
            pass

    spent = timed(work)
    shutil.rmtree(folder)
    return spent


def pull_skopeo(bench: Bench) -> float:
    folder = bench.fresh("oci")

    def work() -> None:
        bench.run("skopeo", "copy", "--quiet", "--src-tls-verify=false", f"docker://{bench.name}", f"oci:{folder}:x")
        bench.run("umoci", "unpack", "--image", f"{folder}:x", f"{folder}-fs")

    spent = timed(work)
    shutil.rmtree(folder)
    shutil.rmtree(f"{folder}-fs")
    return spent


def pull_docker(bench: Bench) -> float:
    spent = timed(lambda: bench.dock("pull", "--quiet", bench.name))
    bench.dock("rmi", "--force", bench.name)
    return spent


# ---------------------------------------------------------------- push


def push_labkit(bench: Bench) -> float:
    name = bench.registry.name(f"{bench.fresh('push').name}/libreria:1")
    return timed(lambda: push(bench.images.store, bench.name, parse(name)))


def push_skopeo(bench: Bench) -> float:
    name = bench.registry.name(f"{bench.fresh('push').name}/libreria:1")
    source = f"oci:{bench.images.store.root}:{parse(bench.name)}"
    return timed(lambda: bench.run("skopeo", "copy", "--quiet", "--dest-tls-verify=false", source, f"docker://{name}"))


def push_docker(bench: Bench) -> float:
    name = bench.registry.name(f"{bench.fresh('push').name}/libreria:1")
    bench.dock("pull", "--quiet", bench.name)
    bench.dock("tag", bench.name, name)
    spent = timed(lambda: bench.dock("push", "--quiet", name))
    bench.dock("rmi", "--force", name, bench.name)
    return spent


# ---------------------------------------------------------------- build


def build_labkit(bench: Bench) -> float:
    return timed(lambda: bench.lab.build(bench.home / "contesto", tag="bench:1", no_cache=True, quiet=True))


def build_docker(bench: Bench) -> float:
    context = bench.home / "contesto"
    return timed(
        lambda: bench.dock(
            "build", "--quiet", "--no-cache", "--network=none", "-f", context / "Containerfile", "-t", "b", context
        )
    )


# ---------------------------------------------------------------- commit


def commit_labkit(bench: Bench) -> float:
    container = bench.lab.create(bench.base, ["sh", "-c", WRITE], network="none")
    container.start()
    container.wait()
    spent = timed(lambda: container.commit("bench/molti:1"))
    container.rm()
    return spent


def commit_docker(bench: Bench) -> float:
    name = bench.fresh("c").name
    bench.dock("run", "--network=none", "--name", name, bench.base, "sh", "-c", WRITE)
    spent = timed(lambda: bench.dock("commit", name, "molti"))
    bench.dock("rm", name)
    bench.dock("rmi", "molti")
    return spent


WORKS: dict[str, dict[str, Callable[[Bench], float]]] = {
    "prendere e spacchettare": {"labkit": pull_labkit, "skopeo e umoci": pull_skopeo, "docker": pull_docker},
    "mandare": {"labkit": push_labkit, "skopeo": push_skopeo, "docker": push_docker},
    "costruire": {"labkit": build_labkit, "docker": build_docker},
    f"conservare {FILES} file (commit)": {"labkit": commit_labkit, "docker": commit_docker},
}


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """La mediana, in secondi, di ognuno in ogni lavoro; il primo giro scalda e non conta."""
    lots = random.Random(1)
    found: dict[str, dict[str, list[float]]] = {work: {who: [] for who in peers} for work, peers in WORKS.items()}
    with ExitStack() as stack:
        bench = Bench(stack)
        for turn in range(rounds + 1):
            for work, peers in WORKS.items():
                for who in lots.sample(sorted(peers), len(peers)):
                    print(f"giro {turn}: {work}, {who}", end="\x1b[K\r", file=sys.stderr, flush=True)
                    spent = peers[who](bench)
                    if turn:
                        found[work][who].append(spent)
        print(file=sys.stderr)
    return {work: {who: statistics.median(times) for who, times in rows.items()} for work, rows in found.items()}


def goals(medians: dict[str, dict[str, float]]) -> list[Goal]:
    """Non più lenti di nessuno: il rapporto fra noi e ognuno degli altri."""
    return [
        Goal(f"{work}: labkit / {who}", 1.0, rows["labkit"] / spent)
        for work, rows in medians.items()
        for who, spent in rows.items()
        if who != "labkit"
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="giri dell'alternanza (5)")
    parser.add_argument("--json", action="store_true", help="scrive i numeri come JSON")
    options = parser.parse_args()
    missing = [name for name in ("dockerd", "skopeo", "umoci") if not shutil.which(name)]
    if os.geteuid() or missing:
        print(f"Servono root e {', '.join(missing) or 'niente altro'}: sudo make setup", file=sys.stderr)
        return 1
    medians = measure(options.rounds)
    reached = goals(medians)
    if options.json:
        print(json.dumps({"seconds": medians, "goals": [asdict(goal) for goal in reached]}, ensure_ascii=False))
    else:
        for work, rows in medians.items():
            print(work, "  ".join(f"{who} {number(spent)} s" for who, spent in rows.items()), sep=": ")
        print(goals_table(reached))
    return 0 if all(goal.ok for goal in reached) else 1


if __name__ == "__main__":
    sys.exit(main())
