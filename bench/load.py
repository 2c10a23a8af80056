"""The load process of one run: reads, pushes, orders or idle connections against one port, measured, printed as JSON.

Blocking sockets for one connection, a bare epoll for several; requests are built before they are timed and replies are
counted by length, so that this process is not what is measured. Every run ends with a reply parsed in full: a refusal
or a frame lost on the way fails the run instead of making it look fast.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import prepared
from sidecar.wire.frame import HEADER_SIZE, FrameReader, Head, digest_matches
from sidecar.wire.messages import message_class

WARM_UP = 0.25
"""Seconds of the same load before the clock starts."""
PATIENCE = 10.0
FIRST_SERIAL = 1000

_now = time.perf_counter_ns


class LoadError(Exception):
    """The load could not be run as described; the message says what came instead."""


class Link:
    """One client connection past InitConnect."""

    def __init__(self, port: int, client_id: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # the kernel's own time-out: Python's would put a poll before every receive
        self.sock.settimeout(None)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
        self.serial = FIRST_SERIAL
        self._reader = FrameReader(1 << 24)
        self._frames: deque[tuple[bytes, Head]] = deque()
        self.sock.sendall(prepared.init_connect(self.next_serial(), client_id))
        reply = self.reply(prepared.INIT_CONNECT, self.serial, "InitConnect.Response")
        self.conn_id: int = reply.s2c.connID

    def next_serial(self) -> int:
        self.serial += 1
        return self.serial

    def reply(self, proto_id: int, serial: int, full_name: str) -> Any:
        """Wait for that reply, parsed and checked; pushes in between are passed over."""
        while True:
            while self._frames:
                chunk, head = self._frames.popleft()
                if (head.proto_id, head.serial) != (proto_id, serial):
                    continue
                if not digest_matches(chunk, head):
                    raise LoadError(f"the reply to {proto_id} has a wrong digest")
                message: Any = message_class(full_name)()
                message.ParseFromString(chunk[head.start + HEADER_SIZE : head.stop])
                if message.retType != 0:
                    raise LoadError(f"request {proto_id} was refused: {message.retMsg}")
                return message
            data = self.sock.recv(262_144)
            if not data:
                raise LoadError(f"the connection was closed while a reply to {proto_id} was awaited")
            chunk, heads = self._reader.receive(data)
            self._frames.extend((chunk, head) for head in heads)

    def ask(self, proto_id: int, frame: bytes, full_name: str) -> Any:
        self.sock.sendall(frame)
        return self.reply(proto_id, self.serial, full_name)

    def checked_quote(self) -> None:
        """One read whose reply is looked at in full."""
        reply = self.ask(prepared.BASIC_QUOTE, prepared.quote_request(self.next_serial()), "Qot_GetBasicQot.Response")
        if reply.s2c.basicQotList[0].curPrice != prepared.PRICE:
            raise LoadError("the quote that came back is not the one that was sent")


def cpu_ns(pid: int) -> int:
    """CPU time of a process, all threads, in nanoseconds."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):  # a thread that ended just now
            continue
    return total


def rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LoadError(f"process {pid} has no resident memory")


def busy_ns() -> int:
    """CPU time all cores have spent on anything, in nanoseconds, as coarse as the kernel's ticks."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq))) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


class Clock:
    """The measured window: wall time, the CPU time of everyone taking part, and of everyone else on the machine."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids

    def start(self) -> int:
        self._cpu = {name: cpu_ns(pid) for name, pid in self._pids.items()}
        self._busy = busy_ns()
        self._own = time.process_time_ns()
        self._began = _now()
        return self._began

    def stop(self, count: int, unit_bytes: int = 0) -> dict[str, Any]:
        seconds = (_now() - self._began) / 1e9
        cpu = {"load": time.process_time_ns() - self._own}
        cpu |= {name: cpu_ns(pid) - self._cpu[name] for name, pid in self._pids.items()}
        result: dict[str, Any] = {
            "count": count,
            "seconds": seconds,
            "per_second": count / seconds,
            "cpu_us_each": {name: spent / 1000 / count for name, spent in cpu.items()} if count else {},
            "cpu_share": {name: spent / 1e9 / seconds for name, spent in cpu.items()},
            "others_share": max(0.0, (busy_ns() - self._busy - sum(cpu.values())) / 1e9 / seconds),
        }
        if unit_bytes:
            result["mb_per_second"] = count * unit_bytes / seconds / 1e6
        return result


def latency(taken: list[int]) -> dict[str, float]:
    """Percentiles in microseconds of nanosecond samples."""
    taken.sort()
    last = len(taken) - 1
    return {name: taken[round(last * share)] / 1000 for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}


def reads_one_at_a_time(link: Link, seconds: float, clock: Clock) -> dict[str, Any]:
    """One connection, one request outstanding, a blocking socket: nothing but the round trip."""
    link.checked_quote()
    frame, size = bytearray(prepared.quote_request()), len(prepared.quote_reply())
    sock, serial, at = link.sock, link.serial, prepared.SERIAL_AT
    send, recv, pack = sock.send, sock.recv, prepared.serial_bytes
    taken: list[int] = []
    until, measuring = _now() + int(WARM_UP * 1e9), False
    while True:
        serial += 1
        frame[at : at + 4] = pack(serial)
        began = _now()
        send(frame)
        got = len(recv(65536))
        while 0 < got < size:
            got += len(recv(65536)) or size
        ended = _now()
        if got != size:
            raise LoadError(f"a reply of {size} bytes was expected, {got} came")
        taken.append(ended - began)
        if ended >= until:
            if measuring:
                break
            measuring = True
            taken.clear()
            until = clock.start() + int(seconds * 1e9)
    result = clock.stop(len(taken)) | {"latency_us": latency(taken)}
    link.serial = serial
    link.checked_quote()
    return result


class Lane:
    """One connection of a concurrent run: what was sent when, and how many reply bytes came."""

    __slots__ = ("bytes_due", "link", "recv_into", "send", "sent_at")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.send: Callable[[bytes | bytearray], int] = link.sock.send
        self.recv_into = link.sock.recv_into
        self.bytes_due = 0
        self.sent_at: deque[int] = deque()


def reads(links: list[Link], depth: int, seconds: float, clock: Clock) -> dict[str, Any]:
    """Each connection keeps `depth` requests outstanding; what is answered at once is asked again in one write."""
    for link in links:
        link.checked_quote()
    request, size, at = prepared.quote_request(), len(prepared.quote_reply()), prepared.SERIAL_AT
    step, pack = len(request), prepared.serial_bytes
    batches = [bytearray(request * count) for count in range(depth + 1)]
    epoll, lanes, buffer = select.epoll(), {}, bytearray(262_144)

    def ask(lane: Lane, count: int) -> None:
        batch, link = batches[count], lane.link
        for place in range(at, count * step, step):
            link.serial += 1
            batch[place : place + 4] = pack(link.serial)
        lane.bytes_due += count * size
        stamp = _now()
        lane.sent_at.extend([stamp] * count)
        if lane.send(batch) != len(batch):
            raise LoadError("the socket did not take a batch of requests")

    for link in links:
        link.sock.setblocking(False)
        lanes[link.sock.fileno()] = lane = Lane(link)
        epoll.register(link.sock.fileno(), select.EPOLLIN)
        ask(lane, depth)
    taken: list[int] = []
    done, until, measuring = 0, _now() + int(WARM_UP * 1e9), False
    while True:
        ready = epoll.poll(PATIENCE)
        if not ready:
            raise LoadError(f"no reply for {PATIENCE:.0f} seconds")
        for fd, _ in ready:
            lane = lanes[fd]
            got = lane.recv_into(buffer)
            if not got:
                raise LoadError("a connection was closed during the run")
            # replies still owed after this chunk, a half received one counting as owed
            owed = -(-(lane.bytes_due - got) // size)
            lane.bytes_due -= got
            answered = len(lane.sent_at) - owed
            if answered:
                ended = _now()
                for _ in range(answered):
                    taken.append(ended - lane.sent_at.popleft())
                ask(lane, answered)
        if _now() >= until:
            if measuring:
                break
            measuring = True
            taken.clear()
            until = clock.start() + int(seconds * 1e9)
    done = len(taken)
    result = clock.stop(done) | {"latency_us": latency(taken)}
    for lane in lanes.values():
        sock = lane.link.sock
        sock.settimeout(PATIENCE)
        while lane.bytes_due > 0:
            lane.bytes_due -= sock.recv_into(buffer, min(len(buffer), lane.bytes_due)) or lane.bytes_due + 1
        if lane.bytes_due:
            raise LoadError("a connection was closed before its replies were in")
        lane.link.checked_quote()  # fails where a reply was missing or of another length
    return result


def pushes(links: list[Link], seconds: float, clock: Clock) -> dict[str, Any]:
    """Every connection subscribes; the upstream pushes as fast as it is read."""
    for link in links:
        link.ask(prepared.SUBSCRIBE, prepared.subscribe_request(link.next_serial()), "Qot_Sub.Response")
    size = len(prepared.quote_push())
    epoll, socks, buffer = select.epoll(), {}, bytearray(262_144)
    for link in links:
        link.sock.setblocking(False)
        socks[link.sock.fileno()] = link.sock.recv_into
        epoll.register(link.sock.fileno(), select.EPOLLIN)
    until, measuring, received = _now() + int(WARM_UP * 1e9), False, 0
    per_link = dict.fromkeys(socks, 0)
    while True:
        ready = epoll.poll(PATIENCE)
        if not ready:
            raise LoadError(f"no push for {PATIENCE:.0f} seconds")
        for fd, _ in ready:
            got = socks[fd](buffer)
            if not got:
                raise LoadError("a connection was closed during the run")
            per_link[fd] += got
        if _now() >= until:
            if measuring:
                break
            measuring = True
            per_link = dict.fromkeys(socks, 0)
            until = clock.start() + int(seconds * 1e9)
    received = sum(per_link.values())
    result = clock.stop(received // size, size)
    result["least_of_a_client_mb_per_second"] = min(per_link.values()) / result["seconds"] / 1e6
    return result


def orders_one_at_a_time(link: Link, seconds: float, clock: Clock) -> dict[str, Any]:
    """One connection, one order outstanding; a new order begins when the last is answered."""
    source, taken = prepared.OrderRequests(link.conn_id), []
    until, measuring = _now() + int(WARM_UP * 1e9), False
    while True:
        frame = source.frame(link.next_serial())
        began = _now()
        link.sock.sendall(frame)
        link.reply(prepared.PLACE_ORDER, link.serial, "Trd_PlaceOrder.Response")
        ended = _now()
        taken.append(ended - began)
        if ended >= until:
            if measuring:
                break
            measuring = True
            taken.clear()
            until = clock.start() + int(seconds * 1e9)
    return clock.stop(len(taken)) | {"latency_us": latency(taken)}


def orders(links: list[Link], seconds: float, clock: Clock) -> dict[str, Any]:
    """Every connection has one order outstanding; each reply is looked at."""
    epoll, by_fd, taken = select.epoll(), {}, []
    readers = {link.sock.fileno(): FrameReader(1 << 20) for link in links}
    sources = {link.sock.fileno(): prepared.OrderRequests(link.conn_id) for link in links}
    answer: Any = message_class("Trd_PlaceOrder.Response")()
    sent_at: dict[int, int] = {}

    def place(fd: int, link: Link) -> None:
        frame = sources[fd].frame(link.next_serial())
        sent_at[fd] = _now()
        link.sock.sendall(frame)

    for link in links:
        fd = link.sock.fileno()
        by_fd[fd] = link
        epoll.register(fd, select.EPOLLIN)
        place(fd, link)
    until, measuring = _now() + int(WARM_UP * 1e9), False
    while True:
        ready = epoll.poll(PATIENCE)
        if not ready:
            raise LoadError(f"no reply for {PATIENCE:.0f} seconds")
        for fd, _ in ready:
            link = by_fd[fd]
            data = link.sock.recv(65536)
            if not data:
                raise LoadError("a connection was closed during the run")
            chunk, heads = readers[fd].receive(data)
            for head in heads:
                if head.proto_id != prepared.PLACE_ORDER:
                    continue
                answer.ParseFromString(chunk[head.start + HEADER_SIZE : head.stop])
                if answer.retType != 0:
                    raise LoadError(f"an order was refused: {answer.retMsg}")
                taken.append(_now() - sent_at[fd])
                place(fd, link)
        if _now() >= until:
            if measuring:
                break
            measuring = True
            taken.clear()
            until = clock.start() + int(seconds * 1e9)
    return clock.stop(len(taken)) | {"latency_us": latency(taken)}


def settled_rss(pid: int) -> int:
    """Resident bytes once they have stood still for half a second."""
    last = rss_bytes(pid)
    for _ in range(10):
        time.sleep(0.5)
        size = rss_bytes(pid)
        if abs(size - last) < 65_536:
            return size
        last = size
    return last


def idle(port: int, client_id: str, count: int, pid: int | None) -> dict[str, Any]:
    """Open `count` connections, each past InitConnect, and see what the proxy's memory grew by."""
    first = [Link(port, client_id) for _ in range(8)]  # what is loaded on first use is not a connection's cost
    for link in first:
        link.checked_quote()
    before = settled_rss(pid) if pid else 0
    links = [Link(port, client_id) for _ in range(count)]
    after = settled_rss(pid) if pid else 0
    for link in (*first, links[0], links[-1]):
        link.checked_quote()
    return {
        "count": count,
        "rss_before": before,
        "rss_after": after,
        "kib_per_connection": (after - before) / 1024 / count,
    }


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """`spec`: kind, port, client_id, connections, depth, seconds, pids by name, core to stay on (or None)."""
    if spec.get("core") is not None:
        os.sched_setaffinity(0, {spec["core"]})
    kind, port, client_id, count = spec["kind"], spec["port"], spec["client_id"], spec["connections"]
    if kind == "idle":
        return idle(port, client_id, count, spec["pids"].get("proxy"))
    clock, seconds = Clock(spec["pids"]), spec["seconds"]
    links = [Link(port, client_id) for _ in range(count)]
    gc.collect()
    gc.freeze()
    gc.disable()
    if kind == "reads":
        if count == 1 and spec["depth"] == 1:
            return reads_one_at_a_time(links[0], seconds, clock)
        return reads(links, spec["depth"], seconds, clock)
    if kind == "pushes":
        return pushes(links, seconds, clock)
    if kind == "orders":
        return orders_one_at_a_time(links[0], seconds, clock) if count == 1 else orders(links, seconds, clock)
    raise LoadError(f"there is no load `{kind}`")


def main() -> None:
    try:
        print(json.dumps(run(json.loads(sys.argv[1]))))
    except (LoadError, OSError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
