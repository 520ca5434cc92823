"""Che cosa un container riceve, detto uguale da ogni laboratorio: programma, variabili, modelli, nomi dei segreti."""

from __future__ import annotations

from pathlib import Path

import pytest

from labkit import Lab
from labkit.errors import InvalidError


def test_the_entrypoint_comes_before_the_command(lab: Lab) -> None:
    assert lab.run("busybox", ["uno", "due"], entrypoint="echo", quiet=True).output == "uno due\n"
    container = lab.run("busybox", ["60"], entrypoint=["sleep"], detach=True)
    assert (container.inspect().entrypoint, container.inspect().command) == (("sleep",), ("sleep", "60"))
    with pytest.raises(InvalidError, match="Non c'è nessun programma"):
        lab.run("busybox", entrypoint=[])


def test_inspect_tells_every_variable_and_who_gave_it(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("A=file\nB=file\n")
    container = lab.run(
        "busybox", ["sleep", "60"], name="web", detach=True, env=["B=opzione", "C="], env_file=tmp_path / "x.env"
    )
    assert [(str(v), v.origin) for v in container.inspect().env[1:]] == [
        ("HOSTNAME=web", "lab"), ("A=file", "file"), ("B=opzione", "option"), ("C=", "option"),
    ]  # fmt: skip
    assert lab.ps().infos[0].env == ()


def test_the_plan_names_what_it_gives_and_never_a_value(lab: Lab) -> None:
    plan = lab.plan(
        "busybox", "true", secrets={"db_password": "segretissimo"}, templates={"/etc/x": "${A}"}, env={"A": "aperto"}
    )
    told = {step.name: step.description for step in plan.steps}
    assert told["WriteTemplate"] == "scrive /etc/x dal suo modello, con i valori di A"
    assert told["MountSecrets"].endswith("db_password")
    assert "segretissimo" not in str(plan._repr_mimebundle_())
    plan.rollback()


def test_a_template_without_its_variable_starts_nothing(lab: Lab) -> None:
    with pytest.raises(InvalidError, match="^/etc/x, riga 1: manca la variabile A"):
        lab.run("busybox", "true", templates={"/etc/x": "${A}"}, secrets={"a": "x"})
    assert not lab.ps(all=True)
