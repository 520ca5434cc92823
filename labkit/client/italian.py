"""``argparse`` che parla italiano: aiuto, uso ed errori; un errore è una frase, mai la pagina d'aiuto intera."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from labkit.errors import InvalidError

_ERRORS: tuple[tuple[str, str], ...] = (
    (r"the following arguments are required: (.*)", "manca {0}"),
    (r"unrecognized arguments: (.*)", "non conosco {0}"),
    (r"expected one argument", "ci vuole un valore"),
    (r"expected at least one argument", "ci vuole almeno un valore"),
    (r"expected (\d+) arguments?", "ci vogliono {0} valori"),
    (r"invalid int value: (.*)", "{0} non è un numero intero"),
    (r"invalid float value: (.*)", "{0} non è un numero"),
    (r"invalid \w+ value: (.*)", "{0} non va bene"),
    (r"invalid choice: (.*?) \(.*choose from (.*)\)", "{0} non va bene: si può scegliere fra {1}"),
    (r"ignored explicit argument (.*)", "non vuole un valore, e c'è {0}"),
    (r"not allowed with argument (.*)", "non va insieme a {0}"),
    (r"one of the arguments (.*) is required", "ci vuole una di queste opzioni: {0}"),
    (r"argument ([^:]+): (.*)", "{0}: {1}"),
)


def translate(message: str) -> str:
    """La frase italiana per un messaggio di argparse; quelli ignoti (o già italiani) restano come sono.

    >>> translate("argument -t/--time: invalid int value: 'due'")
    "-t/--time: 'due' non è un numero intero"
    """
    for pattern, italian in _ERRORS:
        if found := re.fullmatch(pattern, message, re.DOTALL):
            return italian.format(*(translate(group) for group in found.groups()))
    return message


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def add_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Any, prefix: str | None = None
    ) -> None:
        super().add_usage(usage, actions, groups, "uso: " if prefix is None else prefix)


class Parser(argparse.ArgumentParser):
    """Un ``ArgumentParser`` senza abbreviazioni, con i gruppi «argomenti» e «opzioni» e ``--help``.

    Un errore solleva :class:`~labkit.errors.InvalidError` con il rimedio, invece di finire il programma.
    """

    def __init__(self, *args: Any, short_help: bool = True, **kwargs: Any) -> None:
        kwargs |= {"add_help": False, "allow_abbrev": False, "formatter_class": _Formatter}
        super().__init__(*args, **kwargs)
        self.values = self.add_argument_group("argomenti")
        self.options = self.add_argument_group("opzioni")
        names = ("-h", "--help") if short_help else ("--help",)
        self.options.add_argument(*names, action="help", help="mostra questo aiuto e finisce")

    def value(self, name: str, **kwargs: Any) -> None:
        """Un argomento di posizione."""
        action = self.values.add_argument(name, **kwargs)
        if kwargs.get("nargs") == argparse.REMAINDER:
            action.required = False  # or the error for a missing image would ask for a command too

    def option(self, *names: str, **kwargs: Any) -> None:
        """Un'opzione."""
        self.options.add_argument(*names, **kwargs)

    def flag(self, *names: str, help: str, dest: str | None = None) -> None:
        """Un'opzione senza valore."""
        if dest is None:
            self.options.add_argument(*names, action="store_true", help=help)
        else:
            self.options.add_argument(*names, action="store_true", help=help, dest=dest)

    def error(self, message: str) -> NoReturn:
        raise InvalidError(f"{self.prog}: {translate(message)}.", f"{self.prog} --help")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Il nome noto più vicino a quello scritto, o "".

    >>> suggestion("docter", ["doctor", "run"])
    'doctor'
    """
    return next(iter(difflib.get_close_matches(word, list(known), 1)), "")


def natural(what: str) -> Callable[[str], int]:
    """Il tipo di un'opzione che è un numero intero da zero in su; ``what`` è il nome nell'errore."""

    def convert(text: str) -> int:
        if not text.isdecimal():
            raise argparse.ArgumentTypeError(f"{what} deve essere un numero intero da 0 in su, non «{text}»")
        return int(text)

    return convert
