"""Il laboratorio di un notebook: quello vero, più i suoi disegni vivi (console, gara, strati, volumi, pacchetti…)."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, overload

from labkit.client import lab, race
from labkit.client.console import Console
from labkit.client.images import Show

if TYPE_CHECKING:
    from labkit.build.building import Teller
    from labkit.client.container import Container
    from labkit.client.image import Image
    from labkit.widgets.boot_race import BootRace
    from labkit.widgets.console_view import ConsoleView
    from labkit.widgets.environment_diff import EnvironmentDiff
    from labkit.widgets.gauges import Gauges
    from labkit.widgets.image_stack import ImageStack
    from labkit.widgets.layer_explorer import LayerExplorer
    from labkit.widgets.life_line import LifeLine
    from labkit.widgets.mount_map import MountMap
    from labkit.widgets.packet_table import PacketTable


class Lab(lab.Lab):
    __doc__ = f"""{lab.Lab.__doc__}
    Con ``console=True`` la console della macchina virtuale compare nella cella già mentre si accende.
    """

    def __init__(self, backend: str = "auto", needs: Collection[str] = (), console: bool = False) -> None:
        self._show = console
        self._born = False
        self._views: list[ConsoleView] = []
        try:
            super().__init__(backend, needs)
            self._born = True
        finally:
            for view in self._views[:-1] if self._born else self._views:  # of kernels that did not start
                view.close()

    @overload
    def console(self, live: Literal[False] = ...) -> str: ...
    @overload
    def console(self, live: Literal[True]) -> ConsoleView: ...
    def console(self, live: bool = False) -> str | ConsoleView:
        """Quello che il kernel della macchina virtuale ha scritto fin qui, anche dopo la sua fine.

        Con ``live=True`` è uno schermo che si aggiorna finché la macchina vive. Vuoto se il laboratorio
        vive sul kernel di questa macchina.
        """
        if not live:
            return self._console.text()
        from labkit.widgets.console_view import ConsoleView  # only where there is something to show

        return ConsoleView(self._console, lambda: not self.closed)

    def build(
        self,
        folder: str | os.PathLike[str],
        tag: str | Sequence[str] = "",
        file: str = "",
        build_args: Mapping[str, str | None] | None = None,
        target: str = "",
        no_cache: bool = False,
        network: str = "none",
        pull: bool = False,
        board: bool = False,
        quiet: bool = False,
    ) -> Image:
        """Costruisce l'immagine di una cartella con un Containerfile, come ``docker build``.

        ``file`` è il suo nome (``Containerfile``, o ``Dockerfile``); ``build_args`` i valori degli ``ARG``; ``target``
        lo stadio a cui fermarsi; ``network="bridge"`` dà la rete ai RUN; ``no_cache`` rifà tutto; ``pull`` chiede al
        registro l'immagine di partenza anche se c'è già. Con ``board=True`` i passi sono un disegno, se no righe
        (nessuna con ``quiet``).
        Con ``SOURCE_DATE_EPOCH`` (nell'ambiente o fra i ``build_args``) gli stessi file danno la stessa impronta.
        Errori: :class:`~labkit.build.lines.ContainerfileError` se il file è scritto male, con il segno nel punto;
        :class:`~labkit.build.steps.BuildError` se un passo fallisce: ``exit_code`` e ``output`` del suo programma.
        """
        from labkit.build.building import build
        from labkit.build.telling import Printer
        from labkit.build.workshop import LabWorkshop

        teller: Teller = Printer(io.StringIO()) if quiet else Printer()
        if board:
            from labkit.course.building import Drawn

            teller = Drawn()
        return build(
            self, lambda store: LabWorkshop(store, lambda: self), teller, folder, tag, file, build_args, target,
            no_cache, network, pull,
        )  # fmt: skip

    def race(self, *machines: str) -> BootRace:
        """La gara di partenza fra un processo, un container di questo laboratorio e una macchina virtuale.

        ``machines`` sono i backend che corrono: ``"uml"``, ``"qemu"`` o tutti e due; senza dire niente, ``"uml"``.
        """
        from labkit.widgets.boot_race import BootRace

        kinds = ("process", "container", *(machines or ("uml",)))
        return BootRace({race.NAMES.get(kind, kind): partial(race.run, kind, self) for kind in kinds})

    def lifeline(self, *containers: str) -> LifeLine:
        """La linea della vita di quei container (nome o id), o di tutti: cresce mentre vivono."""
        from labkit.widgets.life_line import LifeLine

        return LifeLine(self, containers)

    def mounts(self, *containers: str) -> MountMap:
        """Chi monta che cosa: quei container (i nomi), o tutti; si aggiorna mentre nascono e finiscono."""
        from labkit.widgets.mount_map import MountMap

        return MountMap(self, containers)

    def compare(self, one: Container | str, two: Container | str) -> EnvironmentDiff:
        """Gli ambienti di due container (o i loro nomi), uno accanto all'altro.

        Ogni riga è una variabile: uguale, diversa, solo di uno; e dice chi le ha dato il valore: il
        laboratorio, l'immagine, un ``--env-file``, ``-e``.
        """
        from labkit.widgets.environment_diff import EnvironmentDiff

        left, right = (self.container(c) if isinstance(c, str) else c for c in (one, two))
        return EnvironmentDiff(left, right)

    def gauges(self, container: Container) -> Gauges:
        """Il cruscotto vivo di un container: quello che usa, e tre cursori che cambiano i suoi limiti veri."""
        from labkit.widgets.gauges import Gauges

        return Gauges(container)

    def explore(self, container: Container) -> LayerExplorer:
        """L'esploratore degli strati di un container: da dove viene ogni nome, che cosa nasconde; è vivo."""
        from labkit.widgets.layer_explorer import LayerExplorer

        return LayerExplorer(self, container)

    def stack(self, *names: str) -> ImageStack:
        """Le pile di strati di quelle immagini, una accanto all'altra: ciò che hanno in comune c'è una volta sola.

        Errori: :class:`~labkit.errors.NotFoundError` per un nome che non c'è.
        """
        from labkit.widgets.image_stack import ImageStack

        return ImageStack([self.image(name) for name in names])

    def capture(
        self, interface: str = "lab0", *, limit: int = 10_000, seconds: int = 600, snaplen: int = 2048
    ) -> PacketTable:
        """I pacchetti che passano su un'interfaccia del laboratorio, in una tabella che cresce mentre passano.

        ``interface`` è un'interfaccia del laboratorio: ``"lab0"`` è il suo bridge, e ci passano quelli di tutti i
        container. Finisce con ``stop()``, dopo ``limit`` pacchetti o ``seconds`` secondi; di ogni pacchetto si
        tengono ``snaplen`` byte. ``save("rete.pcap")`` ne fa un file per Wireshark o tcpdump (packet(7)).
        """
        from labkit.client.capture import Capture
        from labkit.widgets.packet_table import PacketTable

        return PacketTable(self, Capture(self, interface, limit, seconds, snaplen))

    def _view(self, title: str, sending: bool) -> Show:
        try:
            from IPython.display import display

            from labkit.widgets.transfer import TransferView
        except ImportError:  # no widgets here: words
            return super()._view(title, sending)
        view = TransferView(title, sending)
        display(view)  # type: ignore[no-untyped-call]
        return view.show

    def _starting(self, lab_id: str) -> None:
        if not self._show:
            return
        from IPython.display import display

        from labkit.widgets.console_view import ConsoleView

        view = ConsoleView(Console(lab_id), lambda: not (self._born and self.closed))
        self._views.append(view)
        display(view)  # type: ignore[no-untyped-call]
