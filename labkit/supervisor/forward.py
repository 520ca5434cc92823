"""Una porta pubblicata: un processo del laboratorio che accetta sull'host e porta i byte al container.

La presa in ascolto l'ha aperta il guardiano nel namespace di rete dell'host; il processo vive nel
laboratorio, e da qui raggiunge il container. Muore con il laboratorio.
"""

from __future__ import annotations

import selectors
import signal
import socket
import time
from typing import NoReturn

_CHUNK = 1 << 16
_LIMIT = 1 << 18

#: Di chi manda pacchetti: secondi di silenzio dopo cui lo si dimentica, e quanti se ne ricordano.
_SILENCE = 60.0
_MOST = 256


class Pipe:
    """Una direzione: quello che arriva da ``source`` e aspetta di partire per ``target``.

    ``connected`` se ``target`` ha finito di collegarsi; ``broken`` se uno dei due non c'è più.
    """

    def __init__(self, source: socket.socket, target: socket.socket, *, connected: bool) -> None:
        self.source = source
        self.target = target
        self.connected = connected
        self.broken = False
        self.waiting = bytearray()
        self.ended = False
        self.closed = False

    def pull(self) -> None:
        try:
            data = self.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.broken = True
            return
        self.waiting += data
        self.ended = not data
        self.push()

    def push(self) -> None:
        if not self.connected:
            return
        try:
            while self.waiting:
                sent = self.target.send(self.waiting)
                del self.waiting[:sent]
            if self.ended and not self.closed:
                self.target.shutdown(socket.SHUT_WR)
                self.closed = True
        except BlockingIOError:
            return
        except OSError:
            self.broken = True


class Forwarder:
    """Il ciclo di una porta pubblicata."""

    def __init__(self, listener: socket.socket, address: tuple[str, int]) -> None:
        self.listener = listener
        self.address = address
        self.selector = selectors.DefaultSelector()
        self.pairs: dict[socket.socket, tuple[Pipe, Pipe]] = {}
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> NoReturn:
        # A client that leaves early is an error of one connection, not the end of the port.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        while True:
            for key, events in self.selector.select():
                sock = key.fileobj
                if sock is self.listener:
                    self.accept()
                elif isinstance(sock, socket.socket) and sock in self.pairs:
                    outgoing, incoming = self.pairs[sock]
                    if events & selectors.EVENT_READ:
                        outgoing.pull()
                    if events & selectors.EVENT_WRITE:
                        incoming.connected = True
                        incoming.push()
                    self.update(outgoing, incoming)

    def accept(self) -> None:
        try:
            client, _ = self.listener.accept()
        except OSError:
            return
        server = socket.socket()
        server.setblocking(False)
        server.connect_ex(self.address)
        client.setblocking(False)
        there, back = Pipe(client, server, connected=False), Pipe(server, client, connected=True)
        self.pairs[client] = (there, back)
        self.pairs[server] = (back, there)
        self.update(there, back)

    def update(self, one: Pipe, other: Pipe) -> None:
        """Che cosa aspettare dai due capi, o chiuderli se non c'è più niente da portare."""
        if one.broken or other.broken or (one.closed and other.closed):
            for sock in (one.source, other.source):
                if sock in self.selector.get_map():
                    self.selector.unregister(sock)
                del self.pairs[sock]
                sock.close()
            return
        for outgoing, incoming in ((one, other), (other, one)):
            reading = not outgoing.ended and len(outgoing.waiting) < _LIMIT
            # A socket that connects becomes writable when it is connected, or has failed.
            writing = not incoming.connected or bool(incoming.waiting) or (incoming.ended and not incoming.closed)
            events = (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if writing else 0)
            sock = outgoing.source
            if events:
                if sock in self.selector.get_map():
                    self.selector.modify(sock, events)
                else:
                    self.selector.register(sock, events)
            elif sock in self.selector.get_map():
                self.selector.unregister(sock)


class PacketForwarder:
    """Il ciclo di una porta udp: a ogni chi manda una presa verso il container, da cui tornano le risposte."""

    def __init__(self, listener: socket.socket, address: tuple[str, int]) -> None:
        self.listener = listener
        self.address = address
        self.selector = selectors.DefaultSelector()
        #: Who sends: the socket that speaks for him, and when he was last heard. The oldest is the first.
        self.people: dict[tuple[str, int], tuple[socket.socket, float]] = {}
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> NoReturn:
        while True:
            for key, _ in self.selector.select(_SILENCE / 4):
                if key.fileobj is self.listener:
                    self.inward()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj.fileno() >= 0:
                    self.outward(key.fileobj, key.data)
            self.forget(time.monotonic() - _SILENCE)

    def inward(self) -> None:
        """Un pacchetto verso il container."""
        try:
            data, who = self.listener.recvfrom(65536)
        except OSError:
            return
        known = self.people.pop(who, None)
        if known is None:
            if len(self.people) >= _MOST:
                self.leave(next(iter(self.people)))
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            sock.connect(self.address)
            self.selector.register(sock, selectors.EVENT_READ, who)
            known = (sock, 0.0)
        self.people[who] = (known[0], time.monotonic())
        try:
            known[0].send(data)
        except OSError:  # nobody listens there yet, or it is full: a packet may be lost
            pass

    def outward(self, sock: socket.socket, who: tuple[str, int]) -> None:
        """Un pacchetto del container verso chi gli aveva scritto."""
        try:
            self.listener.sendto(sock.recv(65536), who)
        except OSError:
            pass

    def forget(self, before: float) -> None:
        """Chi tace da prima di ``before``."""
        for who in [who for who, (_, heard) in self.people.items() if heard < before]:
            self.leave(who)

    def leave(self, who: tuple[str, int]) -> None:
        sock, _ = self.people.pop(who)
        self.selector.unregister(sock)
        sock.close()
