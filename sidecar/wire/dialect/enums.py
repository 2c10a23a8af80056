"""Which of OpenD's numbers have names: OpenD declares most enum-valued fields as int32 and says the enum in a comment.

Knows names and numbers; what a number means is nobody's business here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from sidecar.border import closest
from sidecar.wire.messages import module
from sidecar.wire.symbols import PREFIXES

_SHARED = ("Qot_Common", "Trd_Common", "Common", "Qot_OptionCommon")
"""The files whose enums are used by others; a field's own file comes first."""

# Transcribed from the comments of the .proto files in futu-api 10.11, which a test compares it with.
_BY_NAME = {
    "AlertOpType": "operType",
    "AssetClass": "assetClass",
    "BeatType": "beatType",
    "CltRiskLevel": "riskLevel",
    "CltRiskStatus": "riskStatus",
    "Currency": "currency",
    "CustomIndicatorField": "firstFieldName secondFieldName",
    "CycleType": "cycleType",
    "DTStatus": "dtStatus",
    "DarkStatus": "darkStatus",
    "DividendRankType": "rankType",
    "DynamicType": "dynamicType",
    "EarningsCalendarEstimateType": "estimateType",
    "EarningsCalendarPubType": "pubType",
    "EarningsPubType": "earningsPubType",
    "ExchType": "exchType",
    "ExpirationCycle": "expirationCycle",
    "ExposureLevel": "exposureLevel",
    "F10Type": "financialType",
    "FinancialQuarter": "quarter",
    "GroupType": "groupType",
    "GtwEventType": "eventType",
    "Importance": "importance",
    "IndexOptionType": "indexOptionType index_option_type",
    "IndicatorLangType": "langType",
    "IndicatorSearchMode": "searchMode",
    "IndicatorType": "indicatorType",
    "IpoPeriod": "ipoPeriod",
    "Issuer": "issuer issuerList",
    "KLType": "klType",
    "MarketCategory": "marketCategoryList",
    "MarketSentiment": "sentiment",
    "ModifyOrderOp": "modifyOrderOp",
    "NewsSubType": "news_sub_type",
    "NoDataMode": "noDataMode",
    "OptionAreaType": "exercise_type optionAreaType",
    "OptionIndicatorType": "optionRetrieveList",
    "OptionMarket": "optionMarket",
    "OptionSettlementMode": "optionSettlementMode",
    "OptionStandardType": "optionStandardType",
    "OptionStrategyType": "option_strategy",
    "OptionType": "option_type",
    "OrderBookType": "orderBookType",
    "OrderStatus": "filterStatusList orderStatus",
    "OrderType": "orderType",
    "PacketEncAlgo": "packetEncAlgo",
    "PlateSetType": "plateSetType",
    "PositionSide": "positionSide",
    "PositionType": "positionType",
    "PostPeriodType": "detailPostPeriod",
    "PredSide": "predSide",
    "PriceFilter": "priceFilter",
    "PriceReminderFreq": "freq",
    "PriceReminderMarketStatus": "marketStatus reminderSessionList",
    "PriceType": "inLinePriceStatus priceType",
    "QotMarket": "market marketList",
    "QotMarketState": (
        "marketHK marketHKFuture marketJP marketJPFuture marketMY marketSG marketSGFuture marketSH marketSZ "
        "marketState marketUS marketUSFuture"
    ),
    "QotPushStage": "qotPushStage",
    "QotPushType": "qotPushType",
    "QotRight": (
        "ccQotRight cnQotRight ecQotRight hkFutureQotRight hkOptionQotRight hkQotRight jpFutureQotRight "
        "jpStockQotRight myStockQotRight sgFutureQotRight sgStockQotRight shQotRight szQotRight "
        "usCBOEFutureQotRight usCBOTFutureQotRight usCMEFutureQotRight usCOMEXFutureQotRight usFutureQotRight "
        "usIndexQotRight usNYMEXFutureQotRight usOptionQotRight usOtcQotRight usQotRight"
    ),
    "RatingLevel": "lastRating",
    "ReferenceType": "referenceType",
    "RehabType": "regPushRehabTypeList rehabType rehabTypeList",
    "RelativePosition": "relativePosition",
    "SecurityFirm": "securityFirm",
    "SecurityStatus": "secStatus",
    "SecurityType": "secType sec_type",
    "SellerType": "sellerType",
    "Session": "session",
    "SimAccType": "simAccType",
    "SortDir": "sortDir",
    "SortField": "sortField",
    "SubType": "subType subTypeList",
    "TickerType": "tickerType",
    "TimeInForce": "timeInForce",
    "TradeDateType": "tradeDateType",
    "TrailType": "trailType",
    "TrdAccRole": "accRole",
    "TrdAccStatus": "accStatus",
    "TrdAccType": "accType",
    "TrdAssetCategory": "assetCategory",
    "TrdCashFlowDirection": "cashFlowDirection",
    "TrdCategory": "trdCategory",
    "TrdEnv": "trdEnv",
    "TrdMarket": "filterMarket trdMarket trdMarketAuthList",
    "TrdSecMarket": "secMarket",
    "TrdSide": "trdSide",
    "TrdSubAccType": "jpAccType",
    "UnderlyingIndicatorType": "underlyingRetrieveList",
    "UserAttribution": "userAttribution",
}
"""Enum → the names of the fields that hold it, wherever they are."""

_BY_FIELD = {
    "GetDelayStatistics.C2S.typeList": "DelayStatisticsType",
    "GetUserInfo.S2C.updateType": "UpdateType",
    "Notify.S2C.type": "NotifyType",
    "Qot_Common.ComboLeg.side": "TrdSide",
    "Qot_Common.OptionStaticExData.type": "OptionType",
    "Qot_Common.PlateInfo.plateType": "PlateSetType",
    "Qot_Common.Ticker.dir": "TickerDirection",
    "Qot_Common.Ticker.type": "TickerType",
    "Qot_Common.WarrantStaticExData.type": "WarrantType",
    "Qot_GetArkActiveTransaction.C2S.holdingType": "HoldingType",
    "Qot_GetArkFundHolding.C2S.holdingType": "ArkHoldingType",
    "Qot_GetCapitalFlow.C2S.periodType": "PeriodType",
    "Qot_GetCodeChange.C2S.typeList": "CodeChangeType",
    "Qot_GetCodeChange.CodeChangeInfo.type": "CodeChangeType",
    "Qot_GetCodeChange.TimeFilter.type": "TimeFilterType",
    "Qot_GetEarningsBeatRank.C2S.term": "BeatTerm",
    "Qot_GetEarningsCalendar.C2S.sortType": "EarningsCalendarSortType",
    "Qot_GetEarningsCalendar.EarningsCalendarIndicator.indicatorType": "EarningsCalendarIndicatorType",
    "Qot_GetEarningsCalendar.EstimateData.periodType": "EarningsCalendarPeriodType",
    "Qot_GetHeatMapData.C2S.plateType": "HeatMapPlateType",
    "Qot_GetHistoryKLPoints.HistoryPointsKL.status": "DataStatus",
    "Qot_GetHotList.C2S.sortField": "HotListSortField",
    "Qot_GetIndustrialChainList.IndustrialChainInfo.chainType": "IndustrialChainType",
    "Qot_GetInstitutionHoldingChange.C2S.changeType": "HoldingChangeType",
    "Qot_GetInstitutionHoldingList.C2S.changeType": "HoldingChangeType",
    "Qot_GetMacroIndicatorHistory.MacroDataPoint.unitType": "MacroDataUnitType",
    "Qot_GetMacroIndicatorList.C2S.region": "MacroRegion",
    "Qot_GetOptionChain.C2S.condition": "OptionCondType",
    "Qot_GetOptionChain.C2S.type": "OptionType",
    "Qot_GetOptionEarningsScreener.C2S.sortType": "EarningsSortType",
    "Qot_GetOptionEvent.CorporateAction.actionType": "CorporateActionType",
    "Qot_GetOptionEvent.EventIndicator.indicatorType": "EventIndicatorType",
    "Qot_GetOptionEvent.EventItem.optionType": "OptionType",
    "Qot_GetOptionEvent.EventItem.orderTypeList": "OptionOrderType",
    "Qot_GetOptionEvent.EventItem.strategyType": "TickerStrategy",
    "Qot_GetOptionEvent.EventSort.indicatorType": "EventIndicatorType",
    "Qot_GetOptionEventAlert.EventAlertItem.optionType": "OptionType",
    "Qot_GetOptionEventAlert.EventAlertItem.orderTypeList": "Qot_GetOptionEvent.OptionOrderType",
    "Qot_GetOptionEventAlert.EventAlertItem.sideTypeList": "Qot_GetOptionEvent.TickerType",
    "Qot_GetOptionExpirationDate.OptionExpirationDate.cycle": "ExpirationCycle",
    "Qot_GetOptionMarketStatistic.C2S.dataType": "OptionStatisticDataType",
    "Qot_GetOptionMarketStatistic.S2C.dataType": "OptionStatisticDataType",
    "Qot_GetOptionRank.C2S.sortType": "OptionRankType",
    "Qot_GetOptionRank.OptionRankItem.optionType": "OptionType",
    "Qot_GetOptionRank.S2C.sortType": "OptionRankType",
    "Qot_GetOptionSellerScreener.C2S.sortType": "SellerSortType",
    "Qot_GetOptionSellerScreener.SellerItem.optionType": "OptionType",
    "Qot_GetOptionUnderlyingOverview.HVItem.timeRange": "OptionHVTimeRange",
    "Qot_GetOptionUnderlyingRank.C2S.sortType": "UnderlyingRankSortType",
    "Qot_GetOptionUnderlyingRank.S2C.sortType": "UnderlyingRankSortType",
    "Qot_GetOptionZeroDteContract.C2S.sortType": "ZeroDteContractSortType",
    "Qot_GetOptionZeroDteContract.ZeroDteContractItem.optionType": "OptionType",
    "Qot_GetOptionZeroDteScreener.C2S.sortType": "ZeroDteSortType",
    "Qot_GetPeriodChangeRank.C2S.periodType": "PeriodType",
    "Qot_GetPriceReminder.PriceReminderItem.type": "PriceReminderType",
    "Qot_GetRatingChange.C2S.changeType": "RatingChangeType",
    "Qot_GetRatingChange.RatingChangeItem.changeType": "RatingChangeType",
    "Qot_GetRatingChange.RatingChangeItem.rating": "RatingLevel",
    "Qot_GetRiseFallDistribution.RiseFallRange.type": "DistributionType",
    "Qot_GetSecuritySnapshot.OptionSnapshotExData.type": "OptionType",
    "Qot_GetSecuritySnapshot.SnapshotBasicData.type": "SecurityType",
    "Qot_GetSecuritySnapshot.WarrantSnapshotExData.warrantType": "WarrantType",
    "Qot_GetShortSellingRank.C2S.sortField": "ShortSellingSortField",
    "Qot_GetWarrant.C2S.status": "WarrantStatus",
    "Qot_GetWarrant.C2S.typeList": "WarrantType",
    "Qot_GetWarrant.WarrantData.status": "WarrantStatus",
    "Qot_GetWarrant.WarrantData.type": "WarrantType",
    "Qot_ModifyUserSecurity.C2S.op": "ModifyUserSecurityOp",
    "Qot_OptionCommon.EarningsIndicator.indicatorType": "EarningsIndicatorType",
    "Qot_OptionCommon.OptionRankIndicator.indicatorType": "OptionRankIndicatorType",
    "Qot_OptionCommon.SellerIndicator.indicatorType": "SellerIndicatorType",
    "Qot_OptionCommon.UnderlyingRankIndicator.indicatorType": "UnderlyingRankIndicatorType",
    "Qot_OptionCommon.ZeroDteContractIndicator.indicatorType": "ZeroDteContractIndicatorType",
    "Qot_OptionCommon.ZeroDteIndicator.indicatorType": "ZeroDteIndicatorType",
    "Qot_OptionScreen.OptionIndicator.indicatorType": "OptionIndicatorType",
    "Qot_OptionScreen.Sort.indicatorType": "OptionIndicatorType",
    "Qot_OptionScreen.UnderlyingIndicator.indicatorType": "UnderlyingIndicatorType",
    "Qot_RequestTradeDate.C2S.market": "TradeDateMarket",
    "Qot_SetPriceReminder.C2S.op": "SetPriceReminderOp",
    "Qot_SetPriceReminder.C2S.type": "PriceReminderType",
    "Qot_StockFilter.AccumulateData.fieldName": "AccumulateField",
    "Qot_StockFilter.AccumulateFilter.fieldName": "AccumulateField",
    "Qot_StockFilter.BaseData.fieldName": "StockField",
    "Qot_StockFilter.BaseFilter.fieldName": "StockField",
    "Qot_StockFilter.CustomIndicatorData.fieldName": "CustomIndicatorField",
    "Qot_StockFilter.FinancialData.fieldName": "FinancialField",
    "Qot_StockFilter.FinancialFilter.fieldName": "FinancialField",
    "Qot_StockFilter.PatternFilter.fieldName": "PatternField",
    "Qot_UpdatePriceReminder.S2C.type": "PriceReminderType",
    "Trd_Common.Order.strategyType": "OptionStrategyType",
    "Trd_Common.OrderFill.status": "OrderFillStatus",
    "Trd_Common.Position.strategyType": "OptionStrategyType",
    "Verification.C2S.op": "VerificationOp",
    "Verification.C2S.type": "VerificationType",
}
"""Fields whose name alone does not tell; these go before `_BY_NAME`."""

_ENUM_OF_NAME = {name: enum for enum, names in _BY_NAME.items() for name in names.split()}

_MINUTES = (1, 3, 5, 10, 15, 30, 60, 120, 180, 240)
_ALIASES: Mapping[str, Mapping[str, int]] = {
    # what the official Python SDK calls a value, where that is not the .proto's own name
    "Qot_Common.KLType": {
        f"K_{span}M": number for span, number in zip(_MINUTES, (1, 10, 6, 12, 7, 8, 9, 13, 14, 15), strict=True)
    }
    | {"K_DAY": 2, "K_WEEK": 3, "K_MON": 4, "K_QUARTER": 11, "K_YEAR": 5},
    "Qot_Common.SubType": {
        f"K_{span}M": number for span, number in zip(_MINUTES, (11, 17, 7, 18, 8, 9, 10, 19, 20, 21), strict=True)
    }
    | {
        "K_DAY": 6,
        "K_WEEK": 12,
        "K_MON": 13,
        "K_QUARTER": 15,
        "K_YEAR": 16,
        "KL_QUARTER": 15,
        "QUOTE": 1,
        "RT_DATA": 5,
    },
    "Qot_Common.RehabType": {"qfq": 1, "hfq": 2},
    "Qot_Common.SecurityType": {"STOCK": 3, "ETF": 4, "IDX": 6},
    "Trd_Common.OrderType": {"TWAP": 16, "VWAP": 18},
    # where a market is meant, the beginning of a symbol is
    "Qot_Common.QotMarket": {prefix: markets.qot for prefix, markets in PREFIXES.items()},
    "Trd_Common.TrdSecMarket": {prefix: markets.sec for prefix, markets in PREFIXES.items()},
}

_MOST_NAMES = 40
"""Of an enum, in a message: the largest has over a hundred."""


@cache
def enum_of(field: FieldDescriptor) -> EnumDescriptor | None:
    """The enum whose numbers a field holds, declared as such or not; None where it holds no enum that is known."""
    if field.enum_type is not None:
        return field.enum_type
    if field.cpp_type != FieldDescriptor.CPPTYPE_INT32:
        return None
    name = _BY_FIELD.get(field.full_name) or _ENUM_OF_NAME.get(field.name)
    if name is None:
        return None
    file, _, bare = name.rpartition(".")
    own = field.full_name.partition(".")[0]
    for candidate in (file,) if file else (own, *_SHARED):
        found: EnumDescriptor | None = module(candidate).DESCRIPTOR.enum_types_by_name.get(bare)
        if found is not None:
            return found
    return None


@cache
def short_names(enum: EnumDescriptor) -> Mapping[str, int]:
    """The names of an enum as people write them, without the enum's own before them: `Buy` for `TrdSide_Buy`."""
    prefix = f"{enum.name}_"
    return MappingProxyType({value.name.removeprefix(prefix): value.number for value in enum.values})


@cache
def _numbers(enum: EnumDescriptor) -> Mapping[str, int]:
    short = short_names(enum)
    found = {_fold(value.name): value.number for value in enum.values}
    found.update((_fold(name), number) for name, number in short.items())
    for alias, number in _ALIASES.get(enum.full_name, {}).items():
        found.setdefault(_fold(alias), number)
    return MappingProxyType(found)


def number_of(enum: EnumDescriptor, name: str) -> int | None:
    """The number of a name in any of its spellings: `TrdSide_SellShort`, `SellShort`, `SELL_SHORT`, `sell_short`."""
    return _numbers(enum).get(_fold(name))


def known_names(enum: EnumDescriptor, wrong: object) -> str:
    """`Buy`, `Sell` …: the names to choose from, with the one most like the wrong one where there are too many."""
    names = list(short_names(enum))
    listed = ", ".join(f"`{name}`" for name in names[:_MOST_NAMES])
    if len(names) > _MOST_NAMES:
        listed += f" and {len(names) - _MOST_NAMES} more"
    return listed + (closest(wrong[:80], names) if isinstance(wrong, str) else "")


def _fold(name: str) -> str:
    return name.replace("_", "").casefold()
