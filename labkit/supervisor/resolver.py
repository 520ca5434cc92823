"""Il servizio di nomi del laboratorio: un processo che risponde sulla porta 53, in UDP e in TCP.

Chi si chiama come lo sa solo il supervisore: a ogni domanda glielo si chiede, e nessuna copia può invecchiare.
Un nome che il laboratorio non conosce si chiede ai servizi di nomi di fuori, se il laboratorio ha Internet.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from labkit.supervisor import dns

#: Secondi che si aspettano chi sta fuori; quelli dopo cui una connessione muta si chiude.
_PATIENCE = 4.0
_SILENCE = 20.0

#: Quante connessioni, e quante domande verso fuori, insieme: chi ne apre di più aspetta.
_MOST = 200


@dataclass
class Asked:
    """Una domanda che aspetta: chi la fa, e come gli si risponde."""

    question: dns.Question
    data: bytes
    reply: Callable[[bytes], None]
    tcp: bool
    deadline: float
    heard: bytes = b""


class Resolver:
    """Il ciclo del servizio. ``lab`` è il filo con il supervisore: una domanda, una risposta, con un numero."""

    def __init__(self, udp: socket.socket, tcp: socket.socket, lab: socket.socket) -> None:
        self.udp, self.tcp, self.lab = udp, tcp, lab
        self.selector = selectors.DefaultSelector()
        self.count = 0
        self.waiting: dict[int, Asked] = {}
        self.outside: dict[socket.socket, Asked] = {}
        self.clients: dict[socket.socket, tuple[bytearray, float]] = {}
        for sock, handler in ((udp, self.datagram), (tcp, self.visitor), (lab, self.told)):
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ, handler)

    def serve(self) -> NoReturn:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        while True:
            for key, _ in self.selector.select(1.0):
                key.data(key.fileobj)
            self.sweep(time.monotonic())

    # ---- who asks

    def datagram(self, sock: socket.socket) -> None:
        try:
            data, address = sock.recvfrom(4096)
        except OSError:
            return

        def reply(message: bytes) -> None:
            try:
                sock.sendto(dns.shorten(message), address)
            except OSError:  # whoever asked is gone
                pass

        self.ask(data, address[0], reply, tcp=False)

    def visitor(self, sock: socket.socket) -> None:
        try:
            client, _ = sock.accept()
        except OSError:
            return
        if len(self.clients) >= _MOST:
            client.close()
            return
        client.setblocking(False)
        self.clients[client] = (bytearray(), time.monotonic() + _SILENCE)
        self.selector.register(client, selectors.EVENT_READ, self.stream)

    def stream(self, client: socket.socket) -> None:
        """In TCP ogni messaggio è preceduto da due byte con la sua lunghezza (RFC 1035, 4.2.2)."""
        if client not in self.clients:  # closed a moment ago, in this same round
            return
        buffer, _ = self.clients[client]
        try:
            data = client.recv(65536)
            source = client.getpeername()[0]
        except OSError:
            data, source = b"", ""
        if not data:
            self.close(client)
            return
        buffer += data
        self.clients[client] = (buffer, time.monotonic() + _SILENCE)

        def reply(message: bytes) -> None:
            try:
                client.sendall(struct.pack("!H", len(message)) + message)
            except OSError:  # gone, or it does not read
                self.close(client)

        while len(buffer) >= 2 and len(buffer) >= 2 + (size := int.from_bytes(buffer[:2])):
            message = bytes(buffer[2 : 2 + size])
            del buffer[: 2 + size]
            self.ask(message, source, reply, tcp=True)

    def close(self, client: socket.socket) -> None:
        if self.clients.pop(client, None) is not None:
            self.selector.unregister(client)
            client.close()

    # ---- the answer

    def ask(self, data: bytes, source: str, reply: Callable[[bytes], None], *, tcp: bool) -> None:
        """Una domanda di ``source``: la si passa al supervisore."""
        try:
            question = dns.read(data)
        except ValueError:
            return
        if question.opcode:
            reply(dns.refuse(question, dns.NOTIMP))
            return
        if len(self.waiting) >= _MOST:
            reply(dns.refuse(question, dns.SERVFAIL))
            return
        self.count += 1
        self.waiting[self.count] = Asked(question, data, reply, tcp, time.monotonic() + _PATIENCE)
        who = dns.address_of(question.name) if question.kind == dns.PTR else ""
        asked = {"id": self.count, "source": source, "name": question.name, "address": who}
        try:
            self.lab.send(json.dumps(asked).encode())
        except BlockingIOError:
            self.waiting.pop(self.count).reply(dns.refuse(question, dns.SERVFAIL))

    def told(self, lab: socket.socket) -> None:
        """Il supervisore risponde: ``values`` se conosce quel nome, se no ``servers``, a chi chiedere."""
        data = lab.recv(1 << 16)
        if not data:
            os._exit(0)
        said = json.loads(data)
        asked = self.waiting.pop(said["id"], None)
        if asked is None:
            return
        if said["values"] is not None:
            asked.reply(dns.answer(asked.question, said["values"]))
        elif not said["servers"] or len(self.outside) >= _MOST:
            asked.reply(dns.refuse(asked.question, dns.SERVFAIL if said["servers"] else dns.NXDOMAIN))
        else:
            self.forward(asked, said["servers"][0])

    def forward(self, asked: Asked, server: str) -> None:
        """La stessa domanda a chi sta fuori, da una presa sua: nessun altro può rispondere al suo posto."""
        kind = socket.SOCK_STREAM if asked.tcp else socket.SOCK_DGRAM
        sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            sock.connect_ex((server, 53))
            asked.deadline = time.monotonic() + _PATIENCE
            self.outside[sock] = asked
            if asked.tcp:
                self.selector.register(sock, selectors.EVENT_WRITE, self.reached)
            else:
                sock.send(asked.data)
                self.selector.register(sock, selectors.EVENT_READ, self.heard)
        except OSError:
            self.outside.pop(sock, None)
            sock.close()
            asked.reply(dns.refuse(asked.question, dns.SERVFAIL))

    def reached(self, sock: socket.socket) -> None:
        """La connessione verso fuori c'è, o non ci sarà."""
        asked = self.outside[sock]
        try:
            sock.send(struct.pack("!H", len(asked.data)) + asked.data)
        except OSError:
            self.settle(sock, None)
            return
        self.selector.modify(sock, selectors.EVENT_READ, self.heard)

    def heard(self, sock: socket.socket) -> None:
        """Da fuori arriva la risposta, o un pezzo."""
        asked = self.outside[sock]
        try:
            data = sock.recv(65536)
        except OSError:
            data = b""
        asked.heard += data
        if data and asked.tcp and len(asked.heard) < 2 + int.from_bytes(asked.heard[:2]):
            return
        message = asked.heard[2:] if asked.tcp else asked.heard
        self.settle(sock, message if message[:2] == asked.data[:2] else None)

    def settle(self, sock: socket.socket, message: bytes | None) -> None:
        """La domanda fatta fuori ha la sua risposta; senza, chi l'ha fatta sa che nessuno ha risposto."""
        asked = self.outside.pop(sock)
        self.selector.unregister(sock)
        sock.close()
        asked.reply(dns.refuse(asked.question, dns.SERVFAIL) if message is None else message)

    def sweep(self, now: float) -> None:
        """Chi ha aspettato abbastanza."""
        for sock in [sock for sock, asked in self.outside.items() if asked.deadline < now]:
            self.settle(sock, None)
        for number in [number for number, asked in self.waiting.items() if asked.deadline < now]:
            del self.waiting[number]
        for client in [client for client, (_, deadline) in self.clients.items() if deadline < now]:
            self.close(client)


def become_resolver(address: str, lab: socket.socket) -> NoReturn:
    """Nel figlio appena nato: apre la porta 53 di ``address`` e risponde finché il supervisore vive."""
    try:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        udp.bind((address, 53))
        Resolver(udp, socket.create_server((address, 53), backlog=64), lab).serve()
    finally:
        os._exit(1)
