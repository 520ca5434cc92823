"""Il registro del corso come si usa davvero: processi diversi, utenti qualunque, una classe."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.users import RunAs

ROOT = Path(__file__).parents[2]

#: One process keeps the registry; each command is a process of its own.
ALONE = """
set -eu
export LABKIT_IMAGES="$HOME/mie"
python -m labkit registry --folder "$HOME/registro" --port 0 > "$HOME/detto" & server=$!
trap 'kill $server; wait $server' EXIT
for _ in $(seq 200); do grep -q 'Ctrl-C' "$HOME/detto" && break; sleep 0.1; done
there=$(head -n 1 "$HOME/detto" | grep -o '127.0.0.1:[0-9]*')
echo ciao > "$HOME/saluto"
first=$(tar -C "$HOME" -c saluto | python -m labkit import - corso/prova:1)
python -m labkit tag corso/prova:1 "$there/corso/prova:1"
python -m labkit push -q "$there/corso/prova:1"
python -m labkit rmi corso/prova:1 "$there/corso/prova:1"
python -m labkit images -q | grep . && exit 9
python -m labkit pull -q "$there/corso/prova:1"
second=$(python -m labkit inspect "$there/corso/prova:1" | grep -o '"Id": "[^"]*"')
echo "uguali $first $second"
grep -c 'corso/prova' "$HOME/detto"
"""


@pytest.mark.root
@pytest.mark.parametrize("who", ["user", "nosub"])
def test_a_user_without_any_power_keeps_a_registry_pushes_and_pulls(run_as: RunAs, who: str) -> None:
    done = run_as(who, ["sh", "-c", ALONE.replace("python ", f"{sys.executable} ")], timeout=60)
    assert done.returncode == 0, done.stderr
    *_, said, requests = [line for line in done.stdout.splitlines() if line.startswith("uguali") or line.isdigit()]
    _, first, _, second = said.split()
    assert second == f'"{first}"'
    assert int(requests) > 4, "una riga per ogni domanda"


#: In a network of its own, with an address that is not loopback: the instructor's desk and a student's.
CLASS = """
set -eu
ip link set lo up
ip address add 10.77.0.1/32 dev lo
python -m labkit registry --folder "$HOME/registro" --port 5000 --classe 10.77.0.1 > "$HOME/detto" & server=$!
trap 'kill $server; wait $server' EXIT
for _ in $(seq 200); do grep -q 'Ctrl-C' "$HOME/detto" && break; sleep 0.1; done
there=10.77.0.1:5000
tar -C "$HOME" -c detto | python -m labkit import - corso/prova:1 > /dev/null
python -m labkit push -q corso/prova:1 127.0.0.1:5000/corso/prova:1 > /dev/null
python -m labkit push -q --tls-verify=false corso/prova:1 $there/corso/altra:1 2>&1 && exit 9
python -m labkit pull -q $there/corso/prova:1 2>&1 && exit 9
python -m labkit pull -q --tls-verify=false $there/corso/prova:1
python -m labkit rmi -f "$(python -m labkit images -q | head -n 1)" > /dev/null
LABKIT_MIRRORS=http://$there python -m labkit pull -q corso/prova:1
"""


def test_a_class_pulls_by_address_and_through_the_mirror_and_cannot_push(tmp_path: Path) -> None:
    if not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("unshare o ip non ci sono: sudo apt-get install util-linux iproute2")
    script = CLASS.replace("python ", f"{sys.executable} ")
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(tmp_path), "LABKIT_IMAGES": str(tmp_path / "immagini")}
    command = ["unshare", "--net", "--map-root-user", "--user", "sh", "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    if "unshare failed" in done.stderr:
        pytest.skip(f"qui un utente non può fare una rete sua: {done.stderr.strip()}")
    assert done.returncode == 0, done.stdout + done.stderr
    refused, plain, by_address, by_mirror = done.stdout.splitlines()
    assert "si legge e basta" in refused
    assert "labkit pull --tls-verify=false" in plain
    assert by_address == "10.77.0.1:5000/corso/prova:1"
    assert by_mirror == "corso/prova:1"
