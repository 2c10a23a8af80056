"""Where a real OpenD may be otherwise than the sandbox takes it to be: what is inferred or unknown of it, one name each.

`SandboxSettings.otherwise` turns each around, so that what relies on it can be tried against such an OpenD too.
"""

from __future__ import annotations

from enum import StrEnum


class Otherwise(StrEnum):
    SERIALS_ANYHOW = "serials_anyhow"
    """Serial numbers need not rise."""
    SERIALS_UNANSWERED = "serials_unanswered"
    """A serial number that does not rise is not answered at all; else it is refused."""
    PACKETS_ANYHOW = "packets_anyhow"
    """A packetID may name another connection, and come twice."""
    CLEAR_REFUSED = "clear_refused"
    """Where an RSA key is configured, an InitConnect in clear ends the connection."""
    ECB_IN_FUTUS_FORM = "ecb_in_futus_form"
    """AES_ECB is padded as FTAES_ECB is."""
    UNKNOWN_FIELDS_REFUSED = "unknown_fields_refused"
    """A request with a field that its message does not have is refused; else the field is passed over."""
    BOTH_ORDER_IDS = "both_order_ids"
    """Of an orderID and an orderIDEx that differ, the orderIDEx counts; else they are refused."""
    SEC_MARKET_NEEDED = "sec_market_needed"
    """secMarket must be given; else it is taken from trdMarket and the code."""
    PUSHED_UNASKED = "pushed_unasked"
    """Orders are pushed to every connection, with or without 2008."""
