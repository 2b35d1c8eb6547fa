"""What an HTTP status says of a row, and how long its server asks us to wait."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from stages.download.failure import Failure

REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})
NAMED = {404: "not-found", 410: "not-found", 408: "http-again", 425: "http-again", 429: "rate-limited"}


def refuse_status(status: int, retry_after: str | None = None) -> None:
    """Raise the Failure that belongs to an HTTP status other than 2xx."""
    if 200 <= status < 300:
        return
    reason = NAMED.get(status, "http-5xx" if 500 <= status < 600 else "http-4xx")
    where = " without a Location" if status in REDIRECTS else ""
    raise Failure(reason, f"status {status}{where}", retry_after_s=seconds(retry_after))


def seconds(retry_after: str | None) -> float | None:
    """Retry-After as seconds from now: a number or an HTTP date (RFC 9110, 10.2.3). None if it says nothing."""
    value = (retry_after or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):  # a year that no date has
        return None
