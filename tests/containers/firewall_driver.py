"""Runs in a network of its own (`unshare --net`): loads the rules named on the command line, listens where OpenD would, and prints
as JSON which users may connect to it. Imports nothing of the project."""

import fcntl
import json
import os
import socket
import struct
import subprocess
import sys

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def may_connect(user: int, port: int) -> bool:
    child = os.fork()
    if child == 0:
        try:
            os.setuid(user)
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            os._exit(1)
        except BaseException:
            os._exit(2)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 1), f"user {user} could not even try"
    return status == 0


def main() -> None:
    rules, port, *users = sys.argv[1:]
    "127.0.0.1".encode("idna")  # loads what `connect` needs of Python, which the users below may not read
    raise_loopback()
    subprocess.run(["nft", "-f", rules], check=True)
    subprocess.run(["nft", "-f", rules], check=True)  # loading them again changes nothing
    with socket.create_server(("127.0.0.1", int(port))), socket.create_server(("127.0.0.1", int(port) + 1)):
        told = {user: [may_connect(int(user), int(port)), may_connect(int(user), int(port) + 1)] for user in users}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
