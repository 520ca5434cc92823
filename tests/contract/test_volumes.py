"""I volumi in ogni backend: restano quando il laboratorio finisce, anche se era una macchina virtuale."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit import Lab
from labkit.errors import ConflictError, InvalidError, NotFoundError


def test_a_volume_has_a_name_and_a_user(lab: Lab) -> None:
    assert lab.volume.create("prova", labels={"di": "chi"}) == lab.volume.create("prova")
    container = lab.create("busybox", "true", volumes="prova:/dati")
    assert lab.volume.inspect("prova").used_by == (container.name,)
    with pytest.raises(ConflictError):
        lab.volume.rm("prova")
    container.rm()
    assert [(volume.name, volume.labels) for volume in lab.volume] == [("prova", (("di", "chi"),))]
    lab.volume.rm("prova")
    with pytest.raises(NotFoundError):
        lab.volume.inspect("prova")


@pytest.mark.kernel
@pytest.mark.machine
@pytest.mark.once
def test_the_disk_of_volumes_outlives_the_machine_and_is_of_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_VOLUMES", str(tmp_path))  # the machine of this module holds the disk of the others
    script = "cat /dati/f; echo x >> /dati/f; chown 33:33 /dati/f"
    for expected in ("", "x\n"):
        with Lab(backend="uml") as lab:
            assert lab.features["volumes"].ok
            assert lab.run("busybox", ["sh", "-c", script], volumes="prova:/dati", quiet=True).output == expected
    with Lab(backend="uml") as lab:
        with Lab(backend="uml") as other:
            assert other.features["volumes"].ok is False
            assert "un'altra macchina" in other.features["volumes"].reason
        with pytest.raises(InvalidError, match="dalla macchina virtuale non si vede"):
            lab.run("busybox", "true", volumes=f"{Path.home()}:/casa")
        lab.volume.rm("prova")
