"""A paper OpenD: it speaks OpenD's TCP protocol, so that the official SDKs, the proxy and the tests have something to talk to.

    settings ─▶ server ─▶ connection ─▶ session         one socket: frames, InitConnect, encryption, serials
                  │                                     then by proto id to one of the desks:
                  ├─▶ system       1002 1004            ├─▶ quotes      3001–3015 and pushes
                  ├─▶ reference    31xx 32xx            ├─▶ holdings    2001 21xx 22xx that read
                  ├─▶ trading      2005 2008 2202 2205  └─▶ limits      how often each may be called
                  └─▶ market       moves every 250 ms   ─▶ exchange     matches orders, publishes 2208 and 2218

It uses the proxy's `wire` and nothing else of it. Prices, names of brokers, rates and fees are made up; nothing is fetched.
Where it imitates OpenD the docstring names the fact and how sure it is: documented, tested (with the SDK), inferred, unknown.
Tables of these are in `connection` (protocol), `rules` (orders) and `limits` (frequencies).
"""

from __future__ import annotations

from sidecar.sandbox.server import Sandbox
from sidecar.sandbox.settings import SandboxSettings

__all__ = ["Sandbox", "SandboxSettings"]
