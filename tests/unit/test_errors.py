"""Un errore attraversa il filo come dati e dall'altra parte è lo stesso; la tabella delle classi è chiusa."""

from __future__ import annotations

import errno
import json

import pytest

from labkit import errors
from labkit.errors import (
    CellError,
    CommandError,
    ConflictError,
    InvalidError,
    KernelError,
    LabError,
    NotFoundError,
    from_dict,
)
from labkit.kernel import explain

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, LabError)
]  # fmt: skip


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_survives_the_wire(cls: type[LabError]) -> None:
    sent = cls("Che cosa è successo.", "che cosa fare")
    received = from_dict(json.loads(json.dumps(sent.to_dict())))
    assert type(received) is cls
    assert (received.message, received.remedy, str(received)) == (sent.message, sent.remedy, str(sent))
    assert received.exit_code == sent.exit_code


def test_every_class_has_a_code_of_its_own_and_is_in_the_tree_of_the_docstring() -> None:
    assert len({cls.code for cls in CLASSES}) == len(CLASSES)
    for cls in CLASSES:
        assert cls.__name__ in (errors.__doc__ or "")


def test_a_kernel_error_keeps_what_the_kernel_said() -> None:
    sent = explain.error("mount", errno.EPERM, "/mnt")
    received = from_dict(json.loads(json.dumps(sent.to_dict())))
    assert isinstance(received, KernelError)
    assert isinstance(received, OSError)
    assert (received.errno, received.name, received.syscall, received.path) == (1, "EPERM", "mount", "/mnt")
    assert received.message.startswith("mount(2) su «/mnt»: EPERM, ")
    assert received.explanation == "Operation not permitted"


def test_an_exit_code_travels_with_its_error() -> None:
    assert from_dict(CommandError("x", exit_code=126).to_dict()).exit_code == 126
    assert CommandError("x").exit_code == 127
    assert LabError("x").exit_code == 125


@pytest.mark.parametrize("code", ["inventato", "", None, "OSError", "__class__", 5])
def test_a_code_that_nobody_knows_is_just_an_error(code: object) -> None:
    assert type(from_dict({"code": code, "message": "Qualcosa."})) is LabError


@pytest.mark.parametrize(
    "data", [{}, {"message": None}, {"details": "no"}, {"code": "kernel", "details": {"errno": 2}}]
)
def test_data_half_empty_is_an_error_all_the_same(data: dict[str, object]) -> None:
    assert isinstance(from_dict(data), LabError)


def test_python_s_own_families_are_kept() -> None:
    assert isinstance(InvalidError("x"), ValueError)
    assert isinstance(NotFoundError("x"), LookupError)
    assert not isinstance(ConflictError("x"), (ValueError, OSError))


def test_a_remedy_is_told_after_what_happened() -> None:
    assert str(LabError("Perché.")) == "Perché."
    assert str(LabError("Perché.", "fai così")) == "Perché. Rimedio: fai così"
    assert CellError("La cella.", "")._render_traceback_() == ["CellError: La cella."]


# ---- from an errno to a sentence


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_errno_has_a_sentence(number: int) -> None:
    problem = explain.error("unshare", number)
    assert problem.message.startswith(f"unshare(2): {errno.errorcode[number]}, ")
    assert problem.message.endswith(".")


def test_what_a_call_means_is_said_better_than_what_its_errno_means() -> None:
    assert "CAP_SYS_ADMIN" in explain.error("unshare", errno.EPERM).message
    assert explain.error("unshare", errno.EPERM).remedy == "crea prima un namespace utente: unshare('user')"
    assert "più thread" in explain.error("unshare", errno.EINVAL).message


def test_an_oserror_of_python_is_told_the_same_way() -> None:
    problem = explain.from_os_error(FileNotFoundError(errno.ENOENT, "No such file", "/x"), "open")
    assert problem.message == "open(2) su «/x»: ENOENT, il file o la cartella non c'è."
    assert explain.from_os_error(problem) is problem
    assert explain.from_os_error(OSError()).errno == 0
