"""A paper OpenD: it speaks OpenD's TCP protocol, so that the official SDKs, the proxy and the tests have something to talk to.

    settings ─▶ server ─▶ connection ─▶ session     one socket: frames, InitConnect, encryption, serials
                  ├─▶ faults                        bad days on purpose: late, lost, refused, answered twice
                  ├─▶ limits                        how often each request may be made
                  ├─▶ sessions                      which market trades when
                  ├─▶ the desks, by proto id
                  │     system 1002 1004            quotes 3001–3015 and their pushes
                  │     holdings 2001 21xx 2223     order_queries 2201 2211 222x
                  │     reference 32xx              derivatives 3206 3209 3218 3224
                  │     history_requests 310x       trading 2005 2008 2202 2205 2227
                  ├─▶ market ◀─ listing             moves every 250 ms
                  └─▶ exchange                      matches orders; 2208 and 2218 go out

An order is built up from below, and nothing looks back up: instruments, their market, legs, orders, the accounts that have them,
the rules of what is taken, combos, the exchange (a contract of the import linter).

It uses the proxy's `wire` and nothing else of it. Prices, names of brokers, rates and fees are made up; nothing is fetched.
Where it imitates OpenD the docstring names the fact and how sure it is: documented, tested (with the SDK), inferred, unknown.
Tables of these are in `connection` (protocol), `rules` (orders) and `limits` (frequencies).
"""

from __future__ import annotations

from sidecar.sandbox.faults import Fault, FaultKind
from sidecar.sandbox.server import Sandbox
from sidecar.sandbox.settings import SandboxSettings

__all__ = ["Fault", "FaultKind", "Sandbox", "SandboxSettings"]
