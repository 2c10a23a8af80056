"""The composition root: builds every part from the settings, starts them in order, hears signals, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Any

import structlog

from sidecar.audit.log import AuditLog
from sidecar.audit.record import NO_KEY, AuditRecord
from sidecar.breakers import Breakers
from sidecar.cancelling.account import Means
from sidecar.cancelling.canceller import Canceller
from sidecar.cancelling.disconnects import Disconnects
from sidecar.change_budget import ChangeBudget, ChangeLimit
from sidecar.decision_id import new_decision_id
from sidecar.desk import DeskSettings
from sidecar.desks import Desks
from sidecar.errors import ConfigError, UpstreamError
from sidecar.explaining import Explaining
from sidecar.facts.accounts import Accounts
from sidecar.facts.look_ups import look_ups, shares_of
from sidecar.gate import Gate, GateSettings
from sidecar.grants import Grants
from sidecar.intents.model import TrdEnv
from sidecar.keys.machine import default_zone, machine_id
from sidecar.keys.ring import KeyStore, ReloadResult
from sidecar.ledger.clock import day_starts
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.sqlite import SqliteStore
from sidecar.ledger.state_dir import StateDir
from sidecar.ledger.states import States
from sidecar.listener_settings import TcpListener as TcpSettings
from sidecar.listeners.admin import AdminListener, Problem
from sidecar.listeners.admin_socket import AdminSocket
from sidecar.listeners.certificate import Certificates
from sidecar.listeners.door import Door
from sidecar.listeners.grpc.listener import GrpcListener
from sidecar.listeners.mcp.listener import McpListener
from sidecar.listeners.operator.page import OperatorPage
from sidecar.listeners.rest.listener import RestListener
from sidecar.listeners.tcp.listener import TcpDoor, TcpListener
from sidecar.listeners.websocket.listener import WebSocketListener
from sidecar.loss_watch import LossWatch
from sidecar.metrics import LIMITS, Headroom, KeyExpiry, KeyLimit, Metrics, StateReading
from sidecar.overview import Overview
from sidecar.policy.caps import day_used
from sidecar.policy.currency import Rates, exchange
from sidecar.policy.usage import Account, Terms
from sidecar.reconciling import Reconciling
from sidecar.recorder import Recorder
from sidecar.relay import RelaySettings
from sidecar.reloading import Reloaded, Reloading, Source, settled
from sidecar.repeats import Repeats
from sidecar.returns import Returns
from sidecar.setting_changes import Change
from sidecar.settings import Policy, Settings
from sidecar.settling import Settling
from sidecar.switch import Switch
from sidecar.tasks import Tasks
from sidecar.unlocking import Lock, Unlocking, trade_password
from sidecar.upstream.house import House
from sidecar.upstream.pool import Pool
from sidecar.wire import catalog
from sidecar.wire.encryption import RsaKey
from sidecar.wire.messages import message_class

log = structlog.get_logger()

_LOCKED = {Lock.UNKNOWN: math.nan, Lock.LOCKED: 1.0, Lock.UNLOCKED: 0.0}

KEYS_EVERY = 0.2
"""Seconds between two looks at keys.json; one takes microseconds."""
ASKED_NEXT = 0.5
"""Seconds in which, when stopping, clients whose orders were answered may ask on: the official Python SDK's `place_order` asks for
the order's row before it returns."""
ACCOUNTS_EVERY = 60.0
"""Seconds between two looks at OpenD's account list."""


class App:
    """One sidecar. `run` returns after SIGTERM, SIGINT or `stop`; raises ConfigError when it cannot start."""

    def __init__(self, settings: Settings, source: Source | None = None) -> None:
        """`source`: where the settings are read again from while it runs; None: nowhere."""
        self.reloading = Reloading(settings, source or Source(), apply=self._apply, counted=self._settings_reloaded)
        self.tasks = Tasks()
        self.started = asyncio.Event()
        """Set once every door is open; `ports` are those bound."""
        self.ports: dict[str, list[int]] = {}
        """Listener as in the settings → its ports; closed ones and unix sockets are not in it."""
        self.sockets: dict[str, list[str]] = {}
        """Listener → its unix sockets, as `unix:/path`."""
        self._stop = asyncio.Event()
        self._at_once = False
        self._draining: asyncio.Timeout | None = None
        """While what is in flight is waited for."""
        self._doors: list[tuple[str, Door]] = []
        self._admin: AdminListener | None = None
        self._socket: AdminSocket | None = None

        policy, limits, upstream = settings.policy, settings.limits, settings.upstream
        zone = default_zone(settings.keys.timezone)
        self.keys = KeyStore(
            settings.keys.file, zone, settings.keys.stale_keys_max, time.monotonic,
            connections=settings.listeners.connections,
        )  # fmt: skip
        password = trade_password(settings.unlock)
        self.metrics = Metrics()
        self.certificates = Certificates(settings.listeners, reloaded=self.metrics.certificates_reloaded)
        doors = [self._door(each, place) for place, each in enumerate(settings.listeners.tcp)]
        self._opend_rsa = RsaKey.load(upstream.rsa_key) if upstream.rsa_key else None
        self.state = StateDir.acquire(settings.state_dir)
        try:
            store = SqliteStore.open(self.state.path, attempts_kept=policy.idempotency_keys_kept)
            self._audit = AuditLog(settings.audit_file, min_free=settings.audit.min_free)
            self.ledger = Ledger(
                store, day_starts(policy.day_rolls_at, policy.day_zone), attempts_kept=policy.idempotency_keys_kept
            )
            self.recorder = Recorder(self.ledger, store, self._audit)
            self.states = States(self.state.path)
        except BaseException:
            self.state.release()
            raise
        self.pool = Pool(
            upstream.host, upstream.port, max_connections=upstream.max_connections, max_per_key=upstream.max_connections_per_key,
            connect_timeout=upstream.connect_timeout,
            reply_cap=limits.reply_body, rsa=self._opend_rsa,
        )  # fmt: skip
        self.house = House(
            self.pool, on_push=self._house_push, on_ready=self._house_ready, on_asked=self.metrics.house_request,
            on_lost=lambda: self.unlocking.forget(),
        )  # fmt: skip
        self.accounts = Accounts(self.house, timeout=upstream.connect_timeout)
        shares = shares_of(upstream)
        self.look_ups = look_ups(self.house, self.tasks, shares, policy, self.ledger.sequence_before)
        self.unlocking = Unlocking(
            self.house, password=password, firm_of=self.accounts.firm_of, firms=self.accounts.firms,
            spawn=self.tasks.spawn, idle=settings.unlock.relock_idle, timeout=policy.facts_timeout,
        )  # fmt: skip
        self.grants = Grants(self.keys, machine_id=_machine_id(), audit_reads=settings.audit.reads)
        self.changes = ChangeBudget(
            ChangeLimit(upstream.changes, upstream.changes_period, upstream.changes_gap, upstream.changes_kept)
        )
        self.breakers = Breakers(
            settings.breakers, states=self.states, recorder=self.recorder, metrics=self.metrics,
            revision=lambda: self.keys.ring.revision,
        )  # fmt: skip
        self._remember_orders()
        terms = terms_of(policy)
        self.loss_watch = LossWatch(
            self.house, self.accounts, self.breakers, currency=settings.breakers.daily_loss_currency, rates=terms.rates,
            day_start=day_starts(policy.day_rolls_at, policy.day_zone), unknown=self.metrics.losses_unknown.set,
            timeout=policy.facts_timeout,
        )  # fmt: skip
        self.gate = Gate(
            grants=self.grants, keys=self.keys, ledger=self.ledger, recorder=self.recorder, accounts=self.accounts,
            look_ups=self.look_ups, metrics=self.metrics, settings=_gate_settings(policy),
            trading=self.states.of, unlocking=self.unlocking, breakers=self.breakers, spawn=self.tasks.spawn, shares=shares,
            changes=self.changes,
        )  # fmt: skip
        self.settling = Settling(self.ledger, self.recorder)
        self.reconciling = Reconciling(
            self.house, self.accounts, self.ledger, self.settling, timeout=upstream.request_timeout
        )
        self.settling.on_lost = self.reconciling.wake
        self.returns = Returns(
            grants=self.grants, ledger=self.ledger, recorder=self.recorder, settling=self.settling,
            accounts=self.accounts, metrics=self.metrics, unlocking=self.unlocking,
        )  # fmt: skip
        self.canceller = Canceller(
            means=Means(
                self.house, self.changes, self.tasks.spawn, self.returns.all_answered, unlock=self._unlock
            ),
            accounts=self.accounts, ledger=self.ledger, recorder=self.recorder, metrics=self.metrics,
            revision=lambda: self.grants.revision, kept=upstream.changes_kept,
        )  # fmt: skip
        self.disconnects = Disconnects(
            presence=self.gate.presence, keys=self.keys, canceller=self.canceller, opend_up=lambda: self.house.up
        )
        overview = Overview(
            gate=self.gate, keys=self.keys, ledger=self.ledger, recorder=self.recorder, metrics=self.metrics, house=self.house,
            pool=self.pool, unlocking=self.unlocking, breakers=self.breakers, max_connections=upstream.max_connections,
        )  # fmt: skip
        self.switch = Switch(
            states=self.states, gate=self.gate, recorder=self.recorder, canceller=self.canceller,
            readiness=self.problems, overview=overview.tree, spawn=self.tasks.spawn,
        )  # fmt: skip
        self.explaining = Explaining(self.gate, self.problems, lambda key_id: self.keys.ring.get(key_id))
        relay = RelaySettings(push_owner_wait=policy.push_owner_wait, request_timeout=upstream.request_timeout)
        self.desks = Desks(
            gate=self.gate, returns=self.returns, pool=self.pool, repeats=Repeats(self.ledger), spawn=self.tasks.spawn,
            settings=DeskSettings(
                idle=upstream.shared_idle, request_timeout=upstream.request_timeout,
                push_owner_wait=policy.push_owner_wait, most_streams=upstream.max_connections_per_key,
            ),
        )  # fmt: skip
        self._make_doors(doors, relay)
        self._wire_metrics()
        self.keys.on_change(self._keys_changed)

    @property
    def settings(self) -> Settings:
        """In force."""
        return self.reloading.running

    def _remember_orders(self) -> None:
        """Of the day, for the breaker of the day's loss."""
        for made in self.ledger.in_memory():
            self.breakers.remember(made.key_id, made.acc_id, made.at)

    def _make_doors(self, tcp: Iterable[TcpDoor], relay: RelaySettings) -> None:
        listeners, limits = self.settings.listeners, self.settings.limits
        own: dict[str, Any] = {
            "gate": self.gate, "returns": self.returns, "pool": self.pool, "relay": relay, "spawn": self.tasks.spawn
        }  # fmt: skip
        for door in tcp:
            self._doors.append(("tcp", TcpListener(door, **own)))
        if listeners.websocket is not None:
            self._doors.append(
                ("websocket", WebSocketListener(listeners.websocket, limits, **own, **self._certificate("websocket")))
            )
        if listeners.rest is not None:
            rest = RestListener(
                listeners.rest,
                limits,
                desks=self.desks,
                switch=self.switch,
                readiness=self.problems,
                **self._certificate("rest"),
            )
            self._doors.append(("rest", rest))
        if listeners.grpc is not None:
            self._doors.append(
                ("grpc", GrpcListener(listeners.grpc, limits, desks=self.desks, **self._certificate("grpc")))
            )
        if listeners.mcp is not None:
            self._doors.append(
                ("mcp", McpListener(listeners.mcp, limits, desks=self.desks, **self._certificate("mcp")))
            )

    def _certificate(self, listener: str) -> dict[str, Any]:
        return {"certificate": self.certificates.of(f"listeners.{listener}")}

    def _door(self, each: TcpSettings, place: int) -> TcpDoor:
        for key_id in [*([each.key] if each.key else []), *(key_id for key_id, _ in each.rsa_keys)]:
            if self.keys.ring.get(key_id) is None:
                raise ConfigError(
                    f"setting `listeners.tcp`: key `{key_id}` is not in {self.keys.path}; make it with `gen-key --id {key_id}`"
                )
        limits = self.settings.limits
        return TcpDoor(
            bind=each.bind, port=each.port, key_id=each.key, shared_rsa=RsaKey.load(each.rsa_key) if each.rsa_key else None,
            rsa_keys={key_id: RsaKey.load(path) for key_id, path in each.rsa_keys}, allowed_ips=each.allowed_ips,
            request_cap=limits.request_body, client_buffer=limits.client_buffer, client_stall=limits.client_stall,
            max_clients=limits.max_clients,
            handshake_timeout=limits.handshake_timeout, frame_timeout=limits.frame_timeout, quarantine=self.settings.quarantine,
            socket_mode=each.socket_mode, **self._certificate(f"tcp[{place}]"),
        )  # fmt: skip

    def _wire_metrics(self) -> None:
        metrics, recorder = self.metrics, self.recorder
        metrics.set_keys([record.key.id for record in self.keys.ring.records()], self.keys.ring.revision)
        metrics.read_at_scrape(metrics.upstream_up, lambda: float(self.house.up))
        metrics.read_at_scrape(metrics.upstream_locked, lambda: _LOCKED[self.unlocking.lock])
        metrics.read_at_scrape(metrics.upstream_connections, lambda: float(self.pool.count))
        metrics.upstream_connections_max.set(self.settings.upstream.max_connections)
        metrics.read_at_scrape(metrics.ledger_ok, lambda: float(recorder.ledger_ok))
        metrics.read_at_scrape(metrics.audit_ok, lambda: float(recorder.audit_ok))
        metrics.read_at_scrape(metrics.audit_lag_records, lambda: float(recorder.records_waiting))
        metrics.read_at_scrape(metrics.audit_lag_seconds, lambda: recorder.seconds_behind)
        metrics.read_at_scrape(
            metrics.orders_unsettled, lambda: float(self.ledger.doubts.unsettled_since(time.time() - 60))
        )
        metrics.read_at_scrape(metrics.keys_ok, lambda: float(self.keys.broken_since is None))
        metrics.read_at_scrape(metrics.states_saved, lambda: float(self.states.saved))
        for certificate in self.certificates:
            expires = metrics.certificate_expires.labels(certificate.name.removeprefix("listeners."))
            metrics.read_at_scrape(expires, certificate.expires)
        metrics.read_headroom_at_scrape(self._headroom)
        metrics.read_limits_at_scrape(self._limits)
        metrics.read_expiries_at_scrape(self._expiries)
        metrics.read_states_at_scrape(self._trading_states)

    def _trading_states(self) -> Iterable[StateReading]:
        yield StateReading("", self.states.overall.state)
        for key_id in self.grants.key_ids:
            standing = self.states.keys.get(key_id)
            yield StateReading(key_id, 0 if standing is None else standing.state)

    def _limits(self) -> Iterable[KeyLimit]:
        for key in (record.key for record in self.keys.ring.records()):
            for limit in LIMITS:
                amount = getattr(key, limit)
                if amount is not None:
                    yield KeyLimit(key.id, limit, float(amount))

    def _expiries(self) -> Iterable[KeyExpiry]:
        for key in (record.key for record in self.keys.ring.records()):
            if key.expires_at is not None:
                yield KeyExpiry(key.id, key.expires_at.timestamp())

    def _headroom(self) -> Iterable[Headroom]:
        now = time.time()
        for key in (record.key for record in self.keys.ring.records()):
            usage = self.ledger.usage(key.id, now)
            if key.max_orders_per_minute is not None:
                yield Headroom(
                    key.id, "max_orders_per_minute", float(key.max_orders_per_minute - usage.orders_last_minute)
                )
            if key.max_open_orders is not None:
                yield Headroom(key.id, "max_open_orders", float(key.max_open_orders - usage.open_orders))
            if key.max_daily_value is not None:
                used = day_used(usage, exchange(key.cap_currency, self.gate.terms.rates, self.grants.now()))
                if used is not None:
                    left = key.max_daily_value - max(used.values(), default=0)
                    yield Headroom(key.id, "max_daily_value", float(left))

    # -- running --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start, serve until told to stop, drain, and stop."""
        try:
            with self._signals():
                self.recorder.start()
                try:
                    await self.switch.start()
                    self.disconnects.start()
                    async with asyncio.TaskGroup() as group:
                        background = [
                            group.create_task(each)
                            for each in (
                                self.house.run(),
                                self.pool.run(),
                                self.switch.run(),
                                self.loss_watch.run(),
                                self.reconciling.run(),
                                self._tick(),
                                self._watch_keys(),
                                self.reloading.watch(),
                                self.certificates.watch(),
                                self._refresh_accounts(),
                            )
                        ]
                        try:
                            await self._open_doors()
                            self.started.set()
                            await self._stop.wait()
                        finally:
                            await self._close_doors()
                            for task in background:
                                task.cancel()
                finally:
                    self.house.close()
                    await self.recorder.stop()
        except BaseExceptionGroup as group_error:
            # the task group wraps what stopped it; people want to read the one reason
            raise _first(group_error) from None
        finally:
            self.state.release()

    def stop(self) -> None:
        """Let `run` drain and return."""
        self._stop.set()

    def _told_to_stop(self) -> None:
        """By a signal. Told again, what is still in flight is not waited for: OpenD's answers to it are looked for after the
        next start."""
        if self._stop.is_set() and not self._at_once:
            self._at_once = True
            log.warning(
                "told to stop once more: what is in flight is not waited for", unanswered=self.returns.unanswered
            )
            if self._draining is not None:
                self._draining.reschedule(asyncio.get_running_loop().time())
        self.stop()

    async def _open_socket(self) -> None:
        """What must not keep the sidecar from running: there is still the file HALT."""
        opening = AdminSocket(self.state.path, self.switch, self.explaining, self)
        try:
            await opening.start()
        except ConfigError as error:
            log.warning(
                "`halt`, `resume` and `status` cannot reach this sidecar; the file HALT can", problem=str(error)
            )
        else:
            self._socket = opening

    async def _open_doors(self) -> None:
        await self._open_socket()
        if self.settings.listeners.admin is not None:
            admin = self.settings.listeners.admin
            self._admin = AdminListener(
                metrics=self.metrics,
                readiness=self.problems,
                revision=lambda: self.keys.ring.revision,
                halted=self.switch.told,
                lock=lambda: self.unlocking.lock.value,
                bind=admin.bind,
                port=admin.port,
                socket_mode=admin.socket_mode,
                **self._certificate("admin"),
                page=OperatorPage(self.switch, self.grants),
                allowed_hosts=admin.allowed_hosts,
            )
            self._note("admin", await self._admin.start())
        for name, door in self._doors:
            self._note(name, await door.start())
        opened = {
            name: [*self.ports.get(name, []), *self.sockets.get(name, [])] for name in {**self.ports, **self.sockets}
        }
        log.info("the sidecar is open", **opened, keys=len(self.keys.ring), upstream=self.pool.address)
        for warning in (*self.keys.warnings, *self.state.warnings, *self.certificates.warnings()):
            log.warning(warning)

    def _note(self, listener: str, opened: int | str | None) -> None:
        if isinstance(opened, str):
            self.sockets.setdefault(listener, []).append(opened)
        elif opened is not None:
            self.ports.setdefault(listener, []).append(opened)

    async def _close_doors(self) -> None:
        """Accept nobody new, let what is being decided finish and what was sent be answered, then close the clients."""
        self.gate.closing = True
        self.canceller.close()
        for _, door in self._doors:
            door.stop_accepting()
        await self._drain(0.0 if self._at_once else self.settings.drain)
        self.desks.close()
        for _, door in self._doors:
            door.close_clients()
        await asyncio.sleep(0)
        await self.unlocking.close()
        await self.tasks.drain(1.0)
        for _, door in self._doors:
            await door.stop()
        self.returns.stop()
        for owners in (self._admin, self._socket):
            if owners is not None:
                await owners.stop()

    async def _drain(self, patience: float) -> None:
        """Up to `patience` seconds, or until we are told to stop once more."""
        log.info("stopping: nobody new is let in, what is in flight is waited for", seconds=patience)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience) as self._draining:
                orders = self.returns.unanswered
                await self.tasks.drain(patience)
                orders = orders or self.returns.unanswered
                await self.returns.all_answered(patience)
                if orders:
                    await asyncio.sleep(ASKED_NEXT)
        self._draining = None
        await self.tasks.drain(0.0)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        stop = self._told_to_stop
        handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, getattr(signal, "SIGHUP", None): self.reload}
        taken = []
        for number, handler in handlers.items():
            with contextlib.suppress(
                NotImplementedError, ValueError, RuntimeError, TypeError
            ):  # Windows, or not the main thread
                loop.add_signal_handler(number, handler)  # type: ignore[arg-type]
                taken.append(number)
        try:
            yield
        finally:
            for number in taken:
                loop.remove_signal_handler(number)  # type: ignore[arg-type]

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.ledger.clock_ok(time.time())  # a jump shows only between two looks
            self.unlocking.tick()
            self.desks.tick()
            self.disconnects.tick()
            for _, door in self._doors:
                door.tick()

    # -- keys and settings ----------------------------------------------------------------------------------------

    def reload(self) -> ReloadResult:
        """SIGHUP: read keys.json again, and open the audit file anew; settings and certificates follow in a moment."""
        self.recorder.reopen()
        result = self._reload_keys()
        self.tasks.spawn(self._reload_files())
        return result

    async def reload_all(self) -> dict[str, Any]:
        """As SIGHUP does, and what became of it, as JSON values."""
        self.recorder.reopen()
        keys = self._reload_keys()
        settings, problems = await self._reload_files()
        told = {
            name: getattr(keys, name)
            for name in ("ok", "message", "revision", "added", "removed", "changed", "warnings")
        }
        return {"keys": told, "settings": settings.tree(), "certificates": {"problems": list(problems)}}

    async def rehearse_reload(self) -> dict[str, Any]:
        """What `reload_all` would do to the settings."""
        return {"settings": (await self.reloading.rehearse()).tree()}

    async def _reload_files(self) -> tuple[Reloaded, tuple[str, ...]]:
        return await self.reloading.reload(), await self.certificates.reload()

    def _apply(self, settings: Settings, changed: tuple[Change, ...]) -> None:
        """Put in force what can change while it runs, in one step: no decision sees half of it."""
        policy, breakers = settings.policy, settings.breakers
        gate = _gate_settings(policy)
        self.gate.use(gate)
        losses_counted = self.breakers.settings.daily_loss is not None
        self.breakers.use(breakers)
        if not losses_counted:
            self._remember_orders()
        self.loss_watch.use(breakers.daily_loss_currency, gate.terms.rates)
        self.grants.audit_reads(settings.audit.reads)
        self._audit.min_free = settings.audit.min_free
        self.keys.stale_keys_max = settings.keys.stale_keys_max
        told = "; ".join(str(one) for one in changed)
        record = AuditRecord(
            at=time.time(), iface="sidecar", endpoint="reload", key_id=NO_KEY, outcome="success", message=f"settings: {told}",
            decision_id=new_decision_id(), policy=self.grants.revision, essential=True,
        )  # fmt: skip
        self.recorder.note(record)

    def _settings_reloaded(self, ok: bool) -> None:
        self.metrics.settings_reloaded(ok, needs_restart=len(self.reloading.needs_restart))

    def _reload_keys(self) -> ReloadResult:
        result = self.keys.reload()
        self.metrics.keys_reloaded(result.ok)
        if result.ok:
            log.info(
                "keys.json was read again",
                result=result.message,
                added=result.added,
                removed=result.removed,
                changed=result.changed,
            )
        else:
            log.error("keys.json cannot be used", problem=result.message)
        return result

    def _keys_changed(self, result: ReloadResult) -> None:
        self.metrics.set_keys([record.key.id for record in self.keys.ring.records()], self.keys.ring.revision)
        self.desks.keys_changed()
        for _, door in self._doors:
            door.keys_changed()

    async def _watch_keys(self) -> None:
        """Notice a changed keys.json by itself. It is looked at, over and over: no notification tells of a link that leads elsewhere
        now, of a mounted file whose name outside was given to another one, or of changes on some mounted file systems."""
        while True:
            await asyncio.sleep(KEYS_EVERY)
            if await asyncio.to_thread(self.keys.changed):
                await settled(self.keys.path)
                self._reload_keys()

    # -- the house ------------------------------------------------------------------------------------------------

    async def _house_ready(self) -> None:
        self.look_ups.forget()
        await self._learn_accounts()
        self.reconciling.connected()

    async def _learn_accounts(self) -> None:
        await self.accounts.refresh()
        request: Any = message_class("Trd_SubAccPush.Request")()
        request.c2s.accIDList.extend(sorted(self.accounts.all_ids()))
        await self.house.ask(catalog.SUB_ACC_PUSH, request, timeout=self.settings.upstream.connect_timeout)

    async def _refresh_accounts(self) -> None:
        while True:
            await asyncio.sleep(ACCOUNTS_EVERY)
            if self.house.up and self.accounts.stale:
                with contextlib.suppress(UpstreamError):
                    await self._learn_accounts()

    async def _unlock(self, account: Account) -> None:
        """For cancels of the sidecar's own, which OpenD takes in a real account only while it is unlocked."""
        if account.env is TrdEnv.REAL:
            await self.unlocking.open(account.acc_id)

    def _house_push(self, proto_id: int, body: bytes) -> None:
        self.returns.learn(proto_id, body)

    # -- health ---------------------------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """Why orders would be refused now; empty when ready."""
        found = []
        if not self.house.up:
            found.append(Problem("upstream", self.house.trouble))
        if self.keys.broken_since is not None:
            stale = "orders are refused" if self.keys.stale(time.monotonic()) else "the last good keys are in force"
            found.append(Problem("keys", f"keys.json cannot be read; {stale}"))
        if not self.recorder.ledger_ok:
            found.append(Problem("ledger", "the ledger cannot be written; orders are refused"))
        if not self.recorder.audit_ok:
            found.append(Problem("audit", "the audit cannot be written; orders are refused"))
        if self.reloading.problem is not None:
            text = " ".join(self.reloading.problem.split())
            found.append(Problem("settings", f"they cannot be used, the ones before stay in force: {text}"))
        found += [Problem("certificate", text) for text in self.certificates.problems()]
        return found


def _machine_id() -> str | None:
    try:
        return machine_id()
    except ConfigError as error:
        log.warning("this machine has no id, so keys bound to machines are refused", error=str(error))
        return None


def _gate_settings(policy: Policy) -> GateSettings:
    return GateSettings(policy.tag_orders, terms_of(policy), policy.facts_timeout)


def terms_of(policy: Policy) -> Terms:
    """What every decision is given, out of the settings."""
    fx = policy.fx
    rates = Rates(fx.base, fx.as_of, fx.max_age_days, dict(fx.rates)) if fx.base and fx.as_of else None
    return Terms(price_buffer_pct=policy.price_buffer_pct, rates=rates)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
