"""Il processo «a mano»: fa un'operazione alla volta, lancia programmi, esegue celle Python.

Nasce dal supervisore, con tutto il potere che root ha nel laboratorio e un thread solo: qui
``unshare`` funziona, nel processo del notebook no. Parla con il supervisore con le stesse cornici del
filo, una richiesta alla volta; quello che stampa va nei suoi tubi.
"""

from __future__ import annotations

import ast
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from labkit.engine import manual
from labkit.engine.isolation import replace
from labkit.engine.operation import Context, Plan
from labkit.errors import CellError, InvalidError, LabError
from labkit.kernel import namespaces, procfs
from labkit.kernel.explain import from_os_error
from labkit.model import to_json
from labkit.protocol import Decoder, Kind, pack_json


class Worker:
    """Lo stato del processo: il suo piano fatto a mano e le variabili delle celle."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.plan = Plan(())
        self.context = Context()
        self.variables: dict[str, Any] = {"__name__": "__lab__"}
        self.running = 0

    def serve(self) -> NoReturn:
        """Risponde finché il supervisore non chiude il filo."""
        decoder = Decoder()
        while data := self._receive():
            for frame in decoder.feed(data):
                try:
                    answer = pack_json(Kind.RET, frame.channel, self.handle(frame.json()))
                except LabError as problem:
                    answer = pack_json(Kind.ERR, frame.channel, problem.to_dict())
                except OSError as problem:
                    answer = pack_json(Kind.ERR, frame.channel, from_os_error(problem).to_dict())
                except KeyboardInterrupt:
                    answer = pack_json(Kind.ERR, frame.channel, CellError("Interrotto.").to_dict())
                except Exception as problem:  # noqa: BLE001  one wrong argument must not end the process
                    wrong = InvalidError(f"Un argomento non è del tipo giusto (Python dice: {problem}).", "help(p)")
                    answer = pack_json(Kind.ERR, frame.channel, wrong.to_dict())
                sys.stdout.flush()
                sys.stderr.flush()
                self.channel.sendall(answer)
        os._exit(0)

    def _receive(self) -> bytes:
        while True:
            try:
                return self.channel.recv(65536)
            except KeyboardInterrupt:  # it came when nothing was running
                continue

    def handle(self, request: dict[str, Any]) -> Any:
        """Una richiesta della tabella chiusa."""
        verbs: dict[str, Callable[..., Any]] = {
            "operate": self.operate,
            "undo": self.undo,
            "run": self.run,
            "cell": self.cell,
            "fork": self.fork,
            "exec": self.execute,
            "read": self.read,
            "state": self.state,
            "links": self.links,
        }
        verb = verbs.get(request["verb"])
        if verb is None:
            raise InvalidError(f"Richiesta sconosciuta: {request['verb']}.")
        return verb(**request["args"])

    def operate(self, name: str, arguments: dict[str, Any]) -> Any:
        self.plan.append(manual.make(name, arguments))
        return to_json(self.plan.step(self.context))

    def undo(self) -> Any:
        return to_json(self.plan.undo(self.context))

    def run(self, command: list[str], env: dict[str, str | None] | None = None) -> int:
        """Lancia un programma e aspetta che finisca: 127 e 126 come una shell, 128+n se l'ha ucciso il segnale n."""
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program
        try:
            pid = os.fork()
            if pid == 0:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                code = 125
                try:
                    self.channel.close()
                    replace(tuple(command), present({**os.environ, **(env or {})}))
                except LabError as problem:
                    code = problem.exit_code
                    os.write(2, f"{problem}\n".encode())
                finally:
                    os._exit(code)
            result = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return result if result >= 0 else 128 - result

    def cell(self, source: str) -> None:
        """Esegue il Python di una cella; l'ultima espressione si stampa, come nel notebook."""
        me = os.getpid()
        try:
            tree = ast.parse(source, "<cella>", "exec")
            last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, "<cella>", "exec"), self.variables)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "<cella>", "eval"), self.variables)
                if value is not None:
                    print(repr(value))
        except LabError:
            if os.getpid() == me:
                raise
            sys.excepthook(*sys.exc_info())
        except SystemExit:
            pass
        except Exception as problem:  # noqa: BLE001  a student's code may raise anything
            failure = CellError(f"La cella è fallita: {type(problem).__name__}: {problem}", traceback=_story(problem))
            if os.getpid() == me:
                raise failure from None
            print(failure, file=sys.stderr)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            if os.getpid() != me:  # a child that the cell made: its part is over, the talk is the parent's
                os._exit(0)

    def fork(self) -> Any:
        """Un figlio prende il posto di questo processo: così si entra in un namespace pid o time nuovo."""
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            self.channel.close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            result = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os._exit(result if result >= 0 else 128 - result)
        return {"pid": int(os.readlink("/proc/self")), "inside": os.getpid()}

    def execute(self, command: list[str], env: dict[str, str | None] | None = None) -> None:
        """Il programma prende il posto del processo: il filo si chiude con l'execve."""
        sys.stdout.flush()
        self.channel.set_inheritable(False)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        replace(tuple(command), dict(os.environ) if env is None else present(env))

    def read(self, path: str) -> str:
        try:
            with open(path, "rb") as file:
                return file.read(1 << 20).decode("utf-8", "replace")
        except OSError as problem:
            raise from_os_error(problem, "open") from None

    def state(self) -> Any:
        """Quello che si sa di sé: namespace, mappe, nome host."""
        return {
            "namespaces": namespaces.namespace_ids(),
            "uid_map": to_json(namespaces.id_maps()),
            "gid_map": to_json(namespaces.id_maps(which="gid")),
            "hostname": os.uname().nodename,
            "inside": os.getpid(),
            "uid": os.getuid(),
            "capabilities": procfs.status()["CapEff"],
        }

    def links(self) -> Any:
        return [name for _, name in socket.if_nameindex()]


def _story(problem: BaseException) -> str:
    """Il traceback della cella, senza le righe di labkit."""
    import traceback

    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if frame.filename == "<cella>"]
    lines = [f"riga {frame.lineno}" for frame in frames]
    return " → ".join(lines)


def become_worker(channel: socket.socket, paths: list[str], temporary: str) -> NoReturn:
    """Nel figlio appena nato: una sessione sua e il ciclo delle richieste.

    ``temporary`` è la cartella dei file di passaggio (``tempfile``): è del laboratorio, e finisce con lui.
    """
    os.setsid()
    os.environ["TMPDIR"] = temporary
    sys.path.extend(path for path in paths if path not in sys.path)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        Worker(channel).serve()
    finally:
        os._exit(1)


def present(env: Mapping[str, str | None]) -> dict[str, str]:
    """L'ambiente senza le variabili tolte (quelle che valgono ``None``)."""
    return {name: value for name, value in env.items() if value is not None}
