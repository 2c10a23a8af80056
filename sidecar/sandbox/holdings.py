"""What accounts are and hold: the list, funds, positions, what could be traded, margin ratios. Orders are in `order_queries`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sidecar.sandbox.accounts import Account, Position, convert
from sidecar.sandbox.answers import Answer, Failure, Handler, response
from sidecar.sandbox.combos import combo_effect
from sidecar.sandbox.instruments import TRADE_MARKET, US, ZERO, Currency, Kind
from sidecar.sandbox.margin import SHORT_MARGIN, needed
from sidecar.sandbox.market import Market
from sidecar.sandbox.orders import UNPRICED
from sidecar.sandbox.quote_messages import security
from sidecar.sandbox.rules import exact, find_account, find_instrument, fits
from sidecar.sandbox.session import Session
from sidecar.sandbox.static_data import unknown

_ONE = Decimal(1)
_MARGIN_RATIO_MAX = 100
_MAINTENANCE = Decimal("0.8")
"""Of the initial margin (made up)."""


class HoldingsDesk:
    """Handlers of 2001, 2101, 2102, 2111, 2112 and 2223."""

    def __init__(self, market: Market, accounts: dict[int, Account], relaxed_paper: bool) -> None:
        self._market = market
        self._accounts = accounts
        self._relaxed = relaxed_paper

    def handlers(self) -> dict[int, Handler]:
        return {
            2001: self.account_list,
            2101: self.funds,
            2102: self.positions,
            2111: self.max_quantities,
            2112: self.combo_quantities,
            2223: self.margin_ratios,
        }

    # --- accounts and funds ---

    def account_list(self, session: Session, c2s: Any) -> Answer:
        """2001: trdCategory filters; universal accounts only with needGeneralSecAccount (documented)."""
        answer = response("Trd_GetAccList")
        for account in self._accounts.values():
            if c2s.trdCategory not in (0, account.category) or (account.universal and not c2s.needGeneralSecAccount):
                continue
            entry = answer.s2c.accList.add(trdEnv=int(account.real), accID=account.acc_id)
            entry.trdMarketAuthList.extend(account.markets)
            entry.accType = 2 if account.margin else 1
            entry.accStatus = int(account.disabled)
            if account.real:
                entry.cardNum, entry.securityFirm, entry.accRole = account.card, account.firm, 1
                if account.universal_card:
                    entry.uniCardNum = account.universal_card
            else:
                entry.simAccType = account.sim_type
        return answer

    def funds(self, session: Session, c2s: Any) -> Answer:
        """2101, in the currency asked for, else in the account's own."""
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Failure):
            return account
        known = c2s.currency in Currency.__members__.values()
        currency = Currency(c2s.currency) if known and account.real else account.home
        answer = response("Trd_GetFunds")
        answer.s2c.header.CopyFrom(c2s.header)
        self._fill_funds(answer.s2c.funds, account, currency)
        return answer

    def _fill_funds(self, funds: Any, account: Account, currency: Currency) -> None:
        cash, frozen = account.total_cash(currency), account.frozen(currency)
        power = max(account.power(self._market, currency), ZERO)
        long, short = (account.market_value(self._market, currency, side) for side in (True, False))
        margin = account.margin_used(self._market, currency)
        debt = sum((convert(-amount, held, currency) for held, amount in account.cash.items() if amount < 0), ZERO)
        unrealized = sum(
            (convert(self._profit(p), p.instrument.currency, currency) for p in account.positions.values()), ZERO
        )
        realized = sum((convert(p.realized, p.instrument.currency, currency) for p in account.positions.values()), ZERO)
        for name, amount in (
            ("power", power),
            ("netCashPower", power),
            ("maxPowerShort", power / SHORT_MARGIN if account.margin else ZERO),
            ("totalAssets", cash + long + short),
            ("securitiesAssets", cash + long + short),
            ("cash", cash),
            ("marketVal", long + short),
            ("longMv", long),
            ("shortMv", short),
            ("frozenCash", frozen),
            ("debtCash", debt),
            ("avlWithdrawalCash", max(cash - frozen - margin, ZERO)),
            ("maxWithdrawal", max(cash - frozen - margin, ZERO)),
            ("availableFunds", power),
            ("unrealizedPL", unrealized),
            ("realizedPL", realized),
            ("initialMargin", margin),
            ("maintenanceMargin", margin * _MAINTENANCE),
            ("marginCallMargin", margin * Decimal("0.9")),
            ("fundAssets", ZERO),
            ("bondAssets", ZERO),
            ("pendingAsset", ZERO),
        ):
            setattr(funds, name, round(float(amount), 3))
        funds.currency, funds.riskLevel, funds.riskStatus = int(currency), 0, 1
        for held, amount in account.cash.items():
            free = max(amount - account.frozen(held), ZERO)
            funds.cashInfoList.add(
                currency=int(held), cash=float(amount), availableBalance=float(free), netCashPower=float(free)
            )
        for market in account.markets:
            value = sum(
                (p.quantity * self._last(p) for p in account.positions.values() if fits(market, p.instrument)), ZERO
            )
            funds.marketInfoList.add(trdMarket=int(market), assets=float(value))

    def _last(self, position: Position) -> Decimal:
        return self._market.quotes[position.instrument].last * position.instrument.multiplier

    def _profit(self, position: Position) -> Decimal:
        price = self._market.quotes[position.instrument].last
        return position.quantity * (price - position.cost) * position.instrument.multiplier

    def positions(self, session: Session, c2s: Any) -> Answer:
        """2102. A position that was closed stays in the list with quantity 0 until the end of the day (inferred)."""
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Failure):
            return account
        answer = response("Trd_GetPositionList")
        answer.s2c.header.CopyFrom(c2s.header)
        wanted = c2s.filterConditions
        for position in account.positions.values():
            instrument = position.instrument
            if wanted.codeList and instrument.code not in wanted.codeList:
                continue
            if wanted.filterMarket and not fits(wanted.filterMarket, instrument):
                continue
            value = abs(position.quantity) * position.cost * instrument.multiplier
            ratio = float(self._profit(position) / value) if value else 0.0
            if (c2s.HasField("filterPLRatioMin") and ratio < c2s.filterPLRatioMin) or (
                c2s.HasField("filterPLRatioMax") and ratio > c2s.filterPLRatioMax
            ):
                continue
            self._fill_position(answer.s2c.positionList.add(), account, position, ratio)
        return answer

    def _fill_position(self, message: Any, account: Account, position: Position, ratio: float) -> None:
        instrument = position.instrument
        last = self._market.quotes[instrument].last
        message.positionID, message.positionSide = position.number, int(position.quantity < 0)
        message.code, message.name = instrument.code, instrument.name
        message.qty = float(position.quantity)  # negative for a short position (inferred)
        sellable = account.sellable(instrument) if position.quantity > 0 else abs(position.quantity)
        message.canSellQty = float(sellable)
        message.price, message.costPrice = float(last), float(position.cost)
        message.dilutedCostPrice = message.averageCostPrice = float(position.cost)
        message.val = float(position.quantity * last * instrument.multiplier)
        message.plVal = message.unrealizedPL = round(float(self._profit(position)), 3)
        message.plRatio = message.averagePlRatio = round(ratio, 6)
        message.realizedPL = float(position.realized)
        message.secMarket, message.currency = TRADE_MARKET[instrument.market], int(instrument.currency)
        message.trdMarket = int(
            next((market for market in account.markets if fits(market, instrument)), account.markets[0])
        )
        message.td_buyQty, message.td_buyVal = float(position.bought), float(position.bought_value)
        message.td_sellQty, message.td_sellVal = float(position.sold), float(position.sold_value)
        message.td_trdVal = float(position.bought_value + position.sold_value)
        message.td_plVal = float(position.realized)
        message.accID = account.acc_id

    def max_quantities(self, session: Session, c2s: Any) -> Answer:
        """2111: what the buying power and the holdings allow now, in whole lots.

        Of futures there is no most to buy or to sell short, and margins are told of futures and options only (documented).
        """
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Failure):
            return account
        instrument = find_instrument(self._market.listing, c2s.header.trdMarket, c2s.secMarket, c2s.code)
        if isinstance(instrument, Failure):
            return instrument
        price = exact(c2s.price) if c2s.orderType not in UNPRICED else self._market.quotes[instrument].ask
        if price is None or price <= 0:
            return Failure("The price must be above 0")
        changed = account.by_text_id.get(c2s.orderIDEx)
        future, option = instrument.kind is Kind.FUTURE, instrument.kind is Kind.OPTION
        value = price * instrument.multiplier
        long, short = needed(instrument, _ONE, True, False, price), needed(instrument, _ONE, False, True, price)
        power = max(account.power(self._market, instrument.currency, changed), ZERO)
        step = instrument.quantity_step
        answer = response("Trd_GetMaxTrdQtys")
        answer.s2c.header.CopyFrom(c2s.header)
        most = answer.s2c.maxTrdQtys
        most.maxPositionSell = float(account.sellable(instrument, changed))
        most.maxCashBuy = 0.0 if future else float(int(power / value) // step * step)
        if future or option:
            most.longRequiredIM, most.shortRequiredIM = float(long), float(short)
        if not future:
            shortable = account.margin and (instrument.market == US or option)
            most.maxCashAndMarginBuy = most.maxCashBuy
            most.maxSellShort = float(int(power / short) // step * step) if shortable else 0.0
            most.maxBuyBack = float(max(-account.held(instrument), ZERO))
        return answer

    def combo_quantities(self, session: Session, c2s: Any) -> Answer:
        """2112: what a combo would change of funds and margin."""
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Failure):
            return account
        if not account.real and not self._relaxed:
            return Failure("Paper trading does not support combo orders")
        effect = combo_effect(account, c2s, self._market.listing, self._market)
        if isinstance(effect, Failure):
            return effect
        answer = response("Trd_GetComboMaxTrdQtys")
        answer.s2c.header.CopyFrom(c2s.header)
        most = answer.s2c.maxTrdQtys
        most.nlvChange, most.optionBuyPower = float(effect.net_value), float(effect.power)
        most.initialMarginChange = float(effect.initial_margin)
        most.maintenanceMarginChange = float(effect.initial_margin * _MAINTENANCE)
        most.buyPowerDecrease, most.maxWithDrawChange = float(effect.power_used), -float(effect.power_used)
        return answer

    def margin_ratios(self, session: Session, c2s: Any) -> Answer:
        """2223: made-up ratios, at most 100 securities (documented)."""
        account = find_account(self._accounts, c2s.header)
        if isinstance(account, Failure):
            return account
        if len(c2s.securityList) > _MARGIN_RATIO_MAX:
            return Failure(f"At most {_MARGIN_RATIO_MAX} securities at once")
        answer = response("Trd_GetMarginRatio")
        answer.s2c.header.CopyFrom(c2s.header)
        for wanted in c2s.securityList:
            instrument = self._market.listing.find(wanted.market, wanted.code)
            if instrument is None:
                return unknown(wanted)
            short = instrument.market == US
            answer.s2c.marginRatioInfoList.add(
                security=security(instrument),
                isLongPermit=True,
                isShortPermit=short,
                shortPoolRemain=1_000_000.0 if short else 0.0,
                shortFeeRate=1.5,
                alertLongRatio=33.0,
                alertShortRatio=56.0,
                imLongRatio=40.0,
                imShortRatio=60.0,
                mcmLongRatio=32.0,
                mcmShortRatio=53.0,
                mmLongRatio=28.0,
                mmShortRatio=50.0,
            )
        return answer
