"""What OpenD's description leaves open and doctor leaves alone, with the reason. Asks nothing."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.doctor.check import Check, unasked
from sidecar.settings import Settings


def unasked_checks(settings: Settings, *, paper: bool) -> Iterator[Check]:
    """`paper`: whether a paper order was sent, which answers more."""
    most = settings.upstream.max_connections
    yield unasked(
        "unasked.connections",
        f"how many connections OpenD takes (128 is documented, the sidecar uses {most} at most): trying would take the places of others",
        "where OpenD refuses connections before that: `upstream.max_connections`",
    )
    yield unasked(
        "unasked.reply_size",
        "how large an answer can be: no harmless question has one; the sidecar reads up to "
        f"{settings.limits.reply_body // 1024**2} MiB, and ends a connection that sends more",
        "where that happens: `limits.reply_body`",
    )
    yield unasked(
        "unasked.order_numbers",
        "what becomes of an order whose price or quantity is no number: it might trade at any price; the sidecar refuses it",
    )
    yield unasked(
        "unasked.websocket",
        "what OpenD's own WebSocket does with an address in a login, and how it numbers pushes: the sidecar is a WebSocket "
        "server itself and never uses that port",
    )
    yield unasked(
        "unasked.real", "anything of a real account but reading it: an order there is real, and so is an unlock"
    )
    if not paper:
        yield unasked(
            "unasked.paper",
            "whether packetIDs are checked, which of two order ids counts, and whether orders are pushed unasked: that takes "
            "an order",
            "`doctor --paper` asks it with one paper order, which is cancelled",
        )
