"""Una porta pubblicata porta i byte nei due versi, e chi se ne va male non lascia niente aperto."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from labkit.supervisor.forward import Forwarder

Address = tuple[str, int]


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[tuple[Address, socket.socket, int]]:
    """L'indirizzo pubblicato, chi ascolta dietro, e il PID di chi porta i byte."""
    behind = socket.create_server(("127.0.0.1", 0))
    published = socket.create_server(("127.0.0.1", 0))
    behind.settimeout(5)
    pid = os.fork()
    if pid == 0:
        try:
            gc.disable()  # what the parent of this process no longer needs would be closed here, and counted
            server = behind.getsockname()
            behind.close()
            Forwarder(published, server).serve()
        finally:
            os._exit(1)
    address = published.getsockname()
    published.close()
    try:
        assert soon(lambda: waits(pid))
        yield address, behind, pid
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        behind.close()


def connected(address: Address) -> socket.socket:
    client = socket.create_connection(address, timeout=5)
    client.settimeout(5)
    return client


def everything(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(65536), b""))


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def opened(pid: int) -> list[str]:
    return [entry.path for entry in os.scandir(f"/proc/{pid}/fd")]


def waits(pid: int) -> bool:
    """Se il processo ha già il suo epoll; mentre si sistema apre e chiude altri descrittori."""
    try:
        return "anon_inode:[eventpoll]" in map(os.readlink, opened(pid))
    except FileNotFoundError:
        return False


def descriptors(pid: int) -> int:
    return len(opened(pid))


def soon(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_bytes_go_both_ways_and_an_end_goes_one_way(port: tuple[Address, socket.socket, int]) -> None:
    address, behind, pid = port
    before = descriptors(pid)
    with connected(address) as client:
        server, _ = behind.accept()
        client.sendall(b"domanda")
        client.shutdown(socket.SHUT_WR)
        assert everything(server) == b"domanda"
        server.sendall(b"risposta dopo la fine")
        server.close()
        assert everything(client) == b"risposta dopo la fine"
    assert soon(lambda: descriptors(pid) == before)


def test_much_data_waits_for_who_is_slow(port: tuple[Address, socket.socket, int]) -> None:
    address, behind, _ = port
    data = os.urandom(1 << 20) * 12
    with connected(address) as client:
        server, _ = behind.accept()
        with server:
            server.settimeout(10)
            sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
            sender.start()
            time.sleep(0.2)
            assert everything(server) == data
            sender.join()


def test_whoever_leaves_before_saying_anything_is_told_behind(port: tuple[Address, socket.socket, int]) -> None:
    address, behind, pid = port
    before = descriptors(pid)
    connected(address).close()
    server, _ = behind.accept()
    server.settimeout(5)
    with server:
        assert server.recv(10) == b""
    assert soon(lambda: descriptors(pid) == before)


def test_whoever_resets_the_connection_is_told_behind(port: tuple[Address, socket.socket, int]) -> None:
    address, behind, pid = port
    before = descriptors(pid)
    client = connected(address)
    server, _ = behind.accept()  # a reset that comes before this may leave nobody to be told
    server.settimeout(5)
    reset(client)
    with server, contextlib.suppress(ConnectionResetError):
        assert server.recv(10) == b""
    assert soon(lambda: descriptors(pid) == before)


def test_a_reset_during_the_connection_leaves_nothing_open(port: tuple[Address, socket.socket, int]) -> None:
    address, _, pid = port
    before = descriptors(pid)
    for _ in range(20):
        reset(connected(address))
    client = connected(address)
    assert soon(lambda: descriptors(pid) == before + 2)  # the port still answers
    reset(client)
    assert soon(lambda: descriptors(pid) == before)


def test_whoever_leaves_behind_is_told_in_front(port: tuple[Address, socket.socket, int]) -> None:
    address, behind, pid = port
    before = descriptors(pid)
    for leave in (socket.socket.close, reset):
        with connected(address) as client:
            server, _ = behind.accept()
            leave(server)
            try:
                assert client.recv(10) == b""
            except ConnectionResetError:
                assert leave is reset
    assert soon(lambda: descriptors(pid) == before)


def test_when_nobody_listens_behind_the_client_is_told_at_once(port: tuple[Address, socket.socket, int]) -> None:
    address, behind, pid = port
    before = descriptors(pid)
    behind.close()
    for _ in range(20):
        with connected(address) as client:
            try:
                seen = client.recv(10)
            except ConnectionResetError:
                seen = b""
        assert seen == b""
    assert soon(lambda: descriptors(pid) == before)


def test_a_storm_of_resets_leaves_the_port_as_it_was(port: tuple[Address, socket.socket, int]) -> None:
    address, behind, pid = port
    before = descriptors(pid)
    stop = threading.Event()

    def answer() -> None:
        while not stop.is_set():
            try:
                server, _ = behind.accept()
            except OSError:
                return
            with server:
                try:
                    server.sendall(b"x" * 100_000)
                except OSError:
                    continue

    thread = threading.Thread(target=answer)
    thread.start()
    for turn in range(200):
        client = connected(address)
        if turn % 2:
            client.sendall(b"ciao")
        if turn % 3:
            client.recv(10)
        reset(client)
    with connected(address) as client:
        assert len(everything(client)) == 100_000
    stop.set()
    connected(address).close()
    thread.join(6)
    assert soon(lambda: descriptors(pid) == before)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
