"""A name server for one name: `python dns_server.py ADDRESS NAME ANSWER` answers A queries over UDP on port 53, for ever (RFC 1035)."""

from __future__ import annotations

import socket
import struct
import sys


def answer(query: bytes, name: str, address: str) -> bytes:
    """The reply to one query: the address for an A record of `name`, else that there is no such name."""
    labels, place = [], 12
    while length := query[place]:
        labels.append(query[place + 1 : place + 1 + length].decode())
        place += 1 + length
    question = query[12 : place + 5]
    (kind,) = struct.unpack_from("!H", query, place + 1)
    known = ".".join(labels).lower() == name
    found = known and kind == 1
    header = query[:2] + struct.pack("!5H", 0x8180 if known else 0x8183, 1, found, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
    return header + question + (record if found else b"")


if __name__ == "__main__":
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((sys.argv[1], 53))
    while True:
        data, client = server.recvfrom(512)
        server.sendto(answer(data, *sys.argv[2:4]), client)
