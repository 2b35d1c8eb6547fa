"""Rows that failed before they came here: another downloader's failures, with a reason of ours.

Such a row has its own URL and these two entries in `extra`. Stage `download` leaves it out for that reason, as if it
had asked. `pairloom retry` asks.
"""

REASON = "earlier_reason"  # a word of schemas/quarantine.py
DETAIL = "earlier_detail"  # what the other program said
