"""What a request does not say: asked from OpenD beforehand, and completed from memory in the step that decides. Decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from sidecar.facts.accounts import Accounts
from sidecar.facts.instruments import Instruments
from sidecar.facts.positions import Positions
from sidecar.facts.quotes import Quotes
from sidecar.grants import Caller, Grant, Grants
from sidecar.intents.model import Intent, PlaceOrder
from sidecar.ledger.ledger import Ledger
from sidecar.policy.decide import needs
from sidecar.policy.decision import Refusal
from sidecar.policy.trading import Standing
from sidecar.policy.usage import Facts, Need

IN_VAIN_MOST = 20
IN_VAIN_PERIOD = 30.0
"""After this many unknown securities within these seconds OpenD is not asked on the key's behalf until they have passed."""


class Gathering:
    """The facts of requests. `trading` gives the trading state in force for a key, by its id."""

    def __init__(
        self,
        *,
        grants: Grants,
        ledger: Ledger,
        accounts: Accounts,
        instruments: Instruments,
        quotes: Quotes,
        positions: Positions,
        trading: Callable[[str], Standing],
    ) -> None:
        self._grants = grants
        self._ledger = ledger
        self._accounts = accounts
        self._instruments = instruments
        self._quotes = quotes
        self._positions = positions
        self._trading = trading
        self._in_vain: dict[str, deque[float]] = {}

    # -- from memory ----------------------------------------------------------------------------------------------

    def unsure_of_account(self, intent: Intent) -> bool:
        """Whether it names an account that is not known yet."""
        account = getattr(intent, "account", None)
        return account is not None and self._accounts.get(account.acc_id) is None

    def remembered(self, intent: Intent, key_id: str) -> Facts:
        """What is known without asking anybody."""
        account = getattr(intent, "account", None)
        order = getattr(intent, "order", None)
        return Facts(
            account=None if account is None else self._accounts.get(account.acc_id),
            order_owner=None
            if order is None or account is None
            else self._ledger.owner_of(account.acc_id, order.order_id, order.order_id_ex),
            trading=self._trading(key_id),
        )

    def completed(self, intent: Intent, key_id: str, gathered: Facts) -> Facts:
        """What was gathered, with what memory says at this very moment. Part of the one step that decides."""
        known = self.remembered(intent, key_id)
        facts = replace(gathered, account=known.account, order_owner=known.order_owner, trading=known.trading)
        return self._with_reserved(intent, facts)

    def _with_reserved(self, intent: Intent, facts: Facts) -> Facts:
        """INVARIANT: what is reserved against a holding is counted in the step that decides, over all keys and doors."""
        position = facts.position
        if position is None or not isinstance(intent, PlaceOrder):
            return facts
        if not self._positions.fresh(position):
            return replace(facts, position=None)
        reserved = self._ledger.selling_since(intent.account.acc_id, intent.security.symbol, position.sequence)
        return replace(facts, position=replace(position, reserved=reserved))

    # -- from OpenD -----------------------------------------------------------------------------------------------

    async def gather(self, caller: Caller, intent: Intent, hopeless: Callable[[], bool]) -> Facts:
        """What must be asked for. `hopeless`: whether it is refused whatever the answers, once its account is known.

        Raises UpstreamError where the account cannot be looked up.
        """
        if self.unsure_of_account(intent):
            await self._accounts.ensure(intent.account.acc_id)  # type: ignore[union-attr]  # only those that name one
            if hopeless():
                return Facts()  # refused in the step that follows
        grant = self._grants.of(caller)
        if isinstance(grant, Refusal) or not isinstance(intent, PlaceOrder):
            return Facts()  # refused, or decided without them, in the step that follows
        wanted = needs(grant.key, intent)
        if self._asks_in_vain(grant.key.id):
            wanted -= {Need.INSTRUMENT, Need.QUOTE}
        security, account = intent.security, self._accounts.get(intent.account.acc_id)
        instrument, quote, position = await asyncio.gather(
            self._instruments.get(security) if Need.INSTRUMENT in wanted else _nothing(),
            self._quotes.get(security) if Need.QUOTE in wanted else _nothing(),
            self._positions.get(account, security) if Need.POSITION in wanted else _nothing(),
        )
        if (instrument if Need.INSTRUMENT in wanted else quote) is None and wanted & {Need.INSTRUMENT, Need.QUOTE}:
            self._in_vain.setdefault(grant.key.id, deque(maxlen=IN_VAIN_MOST)).append(time.monotonic())
        return Facts(instrument=instrument, quote=quote, position=position)

    async def refreshed(self, intent: Intent, facts: Facts) -> Facts:
        """A holding that grew old while the order waited behind others of its connection is asked for once more."""
        if facts.position is None or self._positions.fresh(facts.position) or not isinstance(intent, PlaceOrder):
            return facts
        account = self._accounts.get(intent.account.acc_id)
        return replace(facts, position=await self._positions.get(account, intent.security))

    def asks_opend(self, caller: Caller, intent: PlaceOrder) -> bool:
        """Whether deciding it takes an answer from OpenD."""
        grant = self._grants.of(caller)
        return isinstance(grant, Grant) and bool(needs(grant.key, intent))

    def _asks_in_vain(self, key_id: str) -> bool:
        """SECURITY: a key that names one unknown security after the other uses up look-ups that all keys share."""
        asked = self._in_vain.get(key_id)
        return asked is not None and len(asked) == IN_VAIN_MOST and time.monotonic() - asked[0] < IN_VAIN_PERIOD


async def _nothing() -> None:
    """A fact nobody needs."""
