"""The composition root: builds every part from the settings, starts them in order, hears signals, and stops them in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import structlog

from sidecar.account_watch import AccountWatch
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
from sidecar.errors import ConfigError
from sidecar.explaining import Explaining
from sidecar.facts.accounts import Accounts
from sidecar.facts.look_ups import look_ups, shares_of
from sidecar.gate import Gate, GateSettings
from sidecar.gauges import show_certificates, show_keys, show_opend, show_records, show_states
from sidecar.grants import Grants
from sidecar.intents.model import TrdEnv
from sidecar.keys.machine import default_zone, machine_id
from sidecar.keys.ring import KeyStore, ReloadResult
from sidecar.ledger.clock import day_starts
from sidecar.ledger.ledger import Ledger
from sidecar.ledger.sqlite import SqliteStore
from sidecar.ledger.state_dir import StateDir
from sidecar.ledger.states import States
from sidecar.listeners.admin import AdminListener
from sidecar.listeners.admin_socket import AdminSocket
from sidecar.listeners.certificate import Certificates
from sidecar.listeners.doors import Doors, OwnersDoors, tcp_doors
from sidecar.listeners.grpc.listener import GrpcListener
from sidecar.listeners.mcp.listener import McpListener
from sidecar.listeners.operator.page import OperatorPage
from sidecar.listeners.rest.listener import RestListener
from sidecar.listeners.tcp.door import TcpDoor
from sidecar.listeners.tcp.listener import TcpListener
from sidecar.listeners.websocket.listener import WebSocketListener
from sidecar.loss_watch import LossWatch
from sidecar.metrics import Metrics
from sidecar.operator_log import use_level
from sidecar.overview import Overview
from sidecar.policy.usage import Account
from sidecar.readiness import Readiness
from sidecar.reconciling import Reconciling
from sidecar.recorder import Recorder
from sidecar.relay.relay import RelaySettings
from sidecar.reloading import Reloading, Source
from sidecar.repeats import Repeats
from sidecar.rereading import Rereading
from sidecar.returns import Returns
from sidecar.setting_changes import Change
from sidecar.settings import Policy, Settings
from sidecar.settling import Settling
from sidecar.signals import signals
from sidecar.stopping import Stopping
from sidecar.switch import Switch
from sidecar.tasks import Tasks
from sidecar.terms import terms_of
from sidecar.unlocking import Unlocking, trade_password
from sidecar.upstream.house import House
from sidecar.upstream.pool import Pool
from sidecar.wire.encryption import RsaKey

log = structlog.get_logger()


class App:
    """One sidecar. `run` returns after SIGTERM, SIGINT or `stop`; raises ConfigError when it cannot start."""

    def __init__(self, settings: Settings, source: Source | None = None) -> None:
        """`source`: where the settings are read again from while it runs; None: nowhere."""
        self.reloading = Reloading(settings, source or Source(), apply=self._apply, counted=self._settings_reloaded)
        self.tasks = Tasks()
        self.started = asyncio.Event()
        """Set once every door is open; where they are, `doors` knows."""
        self.doors = Doors()

        policy, limits, upstream = settings.policy, settings.limits, settings.upstream
        zone = default_zone(settings.keys.timezone)
        self.keys = KeyStore(
            settings.keys.file, zone, settings.keys.stale_keys_max, time.monotonic,
            connections=settings.listeners.connections,
        )  # fmt: skip
        password = trade_password(settings.unlock)
        self.metrics = Metrics()
        self.certificates = Certificates(settings.listeners, reloaded=self.metrics.certificates_reloaded)
        tcp = tcp_doors(settings, self.keys, self.certificates)
        opend_rsa = RsaKey.load(upstream.rsa_key) if upstream.rsa_key else None
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
            connect_timeout=upstream.connect_timeout, reply_cap=limits.reply_body, rsa=opend_rsa,
        )  # fmt: skip
        self.house = House(
            self.pool, on_push=self._house_push, on_ready=self._house_ready,
            on_asked=self.metrics.house_request, on_lost=lambda: self.unlocking.forget(),
        )  # fmt: skip
        self.accounts = Accounts(self.house, timeout=upstream.connect_timeout)
        self.account_watch = AccountWatch(self.house, self.accounts, timeout=upstream.connect_timeout)
        shares = shares_of(upstream)
        self.look_ups = look_ups(self.house, self.tasks, shares, policy, self.ledger.sequence_before)
        self.unlocking = Unlocking(
            self.house, password=password, firm_of=self.accounts.firm_of, firms=self.accounts.firms,
            spawn=self.tasks.spawn, idle=settings.unlock.relock_idle, timeout=policy.facts_timeout,
        )  # fmt: skip
        self._machine = _machine_id()
        self.grants = Grants(self.keys, machine_id=self._machine, audit_reads=settings.audit.reads)
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
        self.stopping = Stopping(self.tasks, self.returns)
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
        self.rereading = Rereading(
            keys=self.keys, settings=self.reloading, certificates=self.certificates, recorder=self.recorder, metrics=self.metrics,
            spawn=self.tasks.spawn,
        )  # fmt: skip
        self.readiness = Readiness(self.house, self.keys, self.recorder, self.reloading, self.certificates)
        overview = Overview(
            gate=self.gate, keys=self.keys, ledger=self.ledger, recorder=self.recorder, metrics=self.metrics, house=self.house,
            pool=self.pool, unlocking=self.unlocking, breakers=self.breakers, max_connections=upstream.max_connections,
        )  # fmt: skip
        self.switch = Switch(
            states=self.states, gate=self.gate, recorder=self.recorder, canceller=self.canceller,
            readiness=self.readiness.problems, overview=overview.tree, spawn=self.tasks.spawn,
        )  # fmt: skip
        self.explaining = Explaining(self.gate, self.readiness.problems, lambda key_id: self.keys.ring.get(key_id))
        relay = RelaySettings(push_owner_wait=policy.push_owner_wait, request_timeout=upstream.request_timeout)
        self.desks = Desks(
            gate=self.gate, returns=self.returns, pool=self.pool, repeats=Repeats(self.ledger), spawn=self.tasks.spawn,
            settings=DeskSettings(
                idle=upstream.shared_idle, request_timeout=upstream.request_timeout,
                push_owner_wait=policy.push_owner_wait, most_streams=upstream.max_connections_per_key,
            ),
        )  # fmt: skip
        self.owners_doors = self._make_owners_doors()
        self._make_doors(tcp, relay)
        self._show_gauges()
        self._doubt_machine()
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
        listeners, limits, add, desks = self.settings.listeners, self.settings.limits, self.doors.add, self.desks
        sessions: dict[str, Any] = {
            "gate": self.gate, "returns": self.returns, "pool": self.pool, "relay": relay, "spawn": self.tasks.spawn
        }  # fmt: skip
        for door in tcp:
            add("tcp", TcpListener(door, **sessions))
        if (websocket := listeners.websocket) is not None:
            certificate = self.certificates.of("listeners.websocket")
            add("websocket", WebSocketListener(websocket, limits, **sessions, certificate=certificate))
        if (rest := listeners.rest) is not None:
            certificate, readiness = self.certificates.of("listeners.rest"), self.readiness.problems
            add("rest", RestListener(
                rest, limits, desks=desks, switch=self.switch, readiness=readiness, certificate=certificate
            ))  # fmt: skip
        if (grpc := listeners.grpc) is not None:
            add("grpc", GrpcListener(grpc, limits, desks=desks, certificate=self.certificates.of("listeners.grpc")))
        if (mcp := listeners.mcp) is not None:
            add("mcp", McpListener(mcp, limits, desks=desks, certificate=self.certificates.of("listeners.mcp")))

    def _make_owners_doors(self) -> OwnersDoors:
        socket = AdminSocket(self.state.path, self.switch, self.explaining, self.rereading)
        if (admin := self.settings.listeners.admin) is None:
            return OwnersDoors(socket, None)
        return OwnersDoors(socket, AdminListener(
            metrics=self.metrics, readiness=self.readiness.problems, revision=lambda: self.keys.ring.revision,
            halted=self.switch.told, lock=lambda: self.unlocking.lock.value,
            bind=admin.bind, port=admin.port, socket_mode=admin.socket_mode, allowed_hosts=admin.allowed_hosts,
            certificate=self.certificates.of("listeners.admin"), page=OperatorPage(self.switch, self.grants),
        ))  # fmt: skip

    def _show_gauges(self) -> None:
        metrics, most = self.metrics, self.settings.upstream.max_connections
        self._name_keys()
        show_opend(metrics, self.house, self.pool, self.unlocking, max_connections=most)
        show_records(metrics, self.recorder, self.ledger)
        show_certificates(metrics, self.certificates)
        show_keys(metrics, self.keys, self.grants, self.ledger, lambda: self.gate.terms)
        show_states(metrics, self.states, self.grants)

    # -- running --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Start, serve until told to stop, drain, and stop."""
        try:
            with signals(stop=self.stopping.signalled, reload=self.rereading.reload):
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
                                self.rereading.watch_keys(),
                                self.reloading.watch(),
                                self.certificates.watch(),
                                self.account_watch.run(),
                            )
                        ]
                        try:
                            await self._open_doors()
                            self.started.set()
                            await self.stopping.told()
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
        self.stopping.stop()

    async def _open_doors(self) -> None:
        self.doors.note("admin", await self.owners_doors.open())
        await self.doors.open()
        log.info("the sidecar is open", **self.doors.places(), keys=len(self.keys.ring), upstream=self.pool.address)
        for warning in (*self.keys.warnings, *self.state.warnings, *self.certificates.warnings()):
            log.warning(warning)

    async def _close_doors(self) -> None:
        """Accept nobody new, let what is being decided finish and what was sent be answered, then close the clients."""
        self.gate.closing = True
        self.canceller.close()
        self.doors.stop_accepting()
        await self.stopping.drain(self.settings.drain)
        self.desks.close()
        self.doors.close_clients()
        await asyncio.sleep(0)
        await self.unlocking.close()
        await self.tasks.drain(1.0)
        await self.doors.stop()
        self.returns.stop()
        await self.owners_doors.stop()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.ledger.clock_ok(time.time())  # a jump shows only between two looks
            self.unlocking.tick()
            self.desks.tick()
            self.disconnects.tick()
            self.doors.tick()

    # -- keys and settings ----------------------------------------------------------------------------------------

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
        use_level(settings.log.level)
        told = "; ".join(str(one) for one in changed)
        record = AuditRecord(
            at=time.time(), iface="sidecar", endpoint="reload", key_id=NO_KEY, outcome="success", message=f"settings: {told}",
            decision_id=new_decision_id(), policy=self.grants.revision, essential=True,
        )  # fmt: skip
        self.recorder.note(record)

    def _settings_reloaded(self, ok: bool) -> None:
        self.metrics.settings_reloaded(ok, needs_restart=len(self.reloading.needs_restart))

    def _keys_changed(self, _result: ReloadResult) -> None:
        self._name_keys()
        self._doubt_machine()
        self.desks.keys_changed()
        self.doors.keys_changed()

    def _doubt_machine(self) -> None:
        if self._machine is None and any(record.key.allowed_machines for record in self.keys.ring.records()):
            log.warning(
                "this machine has no id, so keys bound to machines are refused; `opend-sidecar machine-id` says why"
            )

    def _name_keys(self) -> None:
        ring = self.keys.ring
        self.metrics.set_keys([record.key.id for record in ring.records()], ring.revision)

    # -- the house ------------------------------------------------------------------------------------------------

    async def _house_ready(self) -> None:
        self.look_ups.forget()
        await self.account_watch.learn()
        self.reconciling.connected()

    def _house_push(self, proto_id: int, body: bytes) -> None:
        self.returns.learn(proto_id, body)

    async def _unlock(self, account: Account) -> None:
        """For cancels of the sidecar's own, which OpenD takes in a real account only while it is unlocked."""
        if account.env is TrdEnv.REAL:
            await self.unlocking.open(account.acc_id)


def _machine_id() -> str | None:
    try:
        return machine_id()
    except ConfigError:
        return None


def _gate_settings(policy: Policy) -> GateSettings:
    return GateSettings(policy.tag_orders, terms_of(policy), policy.facts_timeout)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
