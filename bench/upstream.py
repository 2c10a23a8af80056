"""The responder process that stands for OpenD in a run: prepared answers, as lean as Python gets. Enforces nothing.

One thread and a bare epoll: an event loop with transports would cost more than the answer, and the less this process
costs, the more of what is measured is the proxy. Prints its port on one line, then serves until it is ended.
"""

from __future__ import annotations

import gc
import select
import socket
import struct

from bench import prepared
from sidecar.wire.frame import HEADER_SIZE, FrameReader

PUSHES_IN_A_CHUNK = 64
_head = struct.Struct("<2sIBBII").unpack_from


class Peer:
    """One connection: what is unsent, and whether pushes go out whenever there is room."""

    __slots__ = ("pushing", "reader", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = FrameReader(1 << 20)
        self.unsent: bytes | memoryview = b""
        self.pushing = False


class Upstream:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._door = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self._door.setblocking(False)
        self._peers: dict[int, Peer] = {}
        self._listening: set[int] = set()  # connections that asked for account pushes (2008)
        self._connections = 0
        self._orders = prepared.OrderReplies()
        self._quote = prepared.quote_reply()
        self._quote_start = self._quote[: prepared.SERIAL_AT]
        self._quote_rest = self._quote[prepared.SERIAL_AT + 4 :]
        self._chunk = memoryview(prepared.quote_push() * PUSHES_IN_A_CHUNK)

    @property
    def port(self) -> int:
        number: int = self._door.getsockname()[1]
        return number

    def serve(self) -> None:
        epoll, peers, door = self._epoll, self._peers, self._door.fileno()
        epoll.register(door, select.EPOLLIN)
        while True:
            for fd, events in epoll.poll():
                if fd == door:
                    self._accept()
                    continue
                peer = peers.get(fd)
                if peer is None:
                    continue
                try:
                    if events & select.EPOLLIN:
                        self._read(peer)
                    elif events & (select.EPOLLHUP | select.EPOLLERR):
                        self._close(fd)
                        continue
                    if events & select.EPOLLOUT and fd in peers:
                        self._room(peer)
                except OSError:
                    self._close(fd)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._door.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._peers[sock.fileno()] = Peer(sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _close(self, fd: int) -> None:
        peer = self._peers.pop(fd, None)
        if peer is not None:
            self._listening.discard(fd)
            peer.sock.close()

    def _read(self, peer: Peer) -> None:
        data = peer.sock.recv(262_144)
        if not data:
            self._close(peer.sock.fileno())
            return
        if not peer.reader.buffered and len(data) >= HEADER_SIZE:
            _, proto_id, _, _, _, length = _head(data)
            if proto_id == prepared.BASIC_QUOTE and len(data) == HEADER_SIZE + length:
                at = prepared.SERIAL_AT
                self._send(peer, b"".join((self._quote_start, data[at : at + 4], self._quote_rest)))
                return
        chunk, heads = peer.reader.receive(data)
        at = prepared.SERIAL_AT
        out: list[bytes] = []
        for head in heads:
            if head.proto_id == prepared.BASIC_QUOTE:
                out += (self._quote_start, chunk[head.start + at : head.start + at + 4], self._quote_rest)
            else:
                out.append(self._answer(peer, head.proto_id, head.serial, chunk[head.start + HEADER_SIZE : head.stop]))
        if out:
            self._send(peer, b"".join(out))
        if peer.pushing:
            self._room(peer)

    def _answer(self, peer: Peer, proto_id: int, serial: int, body: bytes) -> bytes:
        if proto_id == prepared.PLACE_ORDER:
            reply, push = self._orders.answer(serial, body)
            for fd in self._listening:
                self._send(self._peers[fd], push)
            return reply
        if proto_id == prepared.INIT_CONNECT:
            self._connections += 1
            return prepared.init_reply(serial, self._connections)
        if proto_id == prepared.PUSH_ACCOUNTS:
            self._listening.add(peer.sock.fileno())
        if proto_id in (prepared.SUBSCRIBE, prepared.REGISTER_PUSH):
            peer.pushing = True
        return prepared.other_reply(proto_id, serial, body)

    def _send(self, peer: Peer, data: bytes | memoryview) -> None:
        """Send now what the kernel takes; keep the rest until there is room."""
        if peer.unsent:
            peer.unsent = bytes(peer.unsent) + data
            return
        try:
            sent = peer.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            peer.unsent = memoryview(data)[sent:]
            self._epoll.modify(peer.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _room(self, peer: Peer) -> None:
        if peer.unsent:
            data, peer.unsent = peer.unsent, b""
            self._send(peer, data)
        if peer.unsent:
            return
        if peer.pushing:
            # pushes leave at full speed: the socket stays registered for room until the client is gone
            self._send(peer, self._chunk)
            if not peer.unsent:
                self._epoll.modify(peer.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)
        else:
            self._epoll.modify(peer.sock.fileno(), select.EPOLLIN)


def main() -> None:
    upstream = Upstream()
    print(upstream.port, flush=True)
    gc.freeze()
    gc.disable()
    upstream.serve()


if __name__ == "__main__":
    main()
