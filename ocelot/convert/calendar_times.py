"""OnCalendar= of systemd.time(7) as cron, as far as cron can say it."""

from __future__ import annotations

import re

_SHORT = {
    "minutely": "* * * * *",
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
    "annually": "0 0 1 1 *",
    "quarterly": "0 0 1 1,4,7,10 *",
    "semiannually": "0 0 1 1,7 *",
}
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAY = r"(?:sun|mon|tue|wed|thu|fri|sat)[a-z]*"
_FORM = re.compile(
    rf"(?:(?P<days>{_WEEKDAY}(?:(?:,|\.\.){_WEEKDAY})*)\s*)?"
    r"(?:(?:\*|\d{4})-(?P<month>[\d*,./]+)-(?P<day>[\d*,./]+)\s*)?"
    r"(?:(?P<hour>[\d*,./]+):(?P<minute>[\d*,./]+)(?::(?P<second>[\d*,./]+))?)?",
    re.IGNORECASE,
)


def cron(text: str) -> tuple[str, str] | None:
    """The five fields, and a time zone if one is named; None where cron cannot say it (seconds, years, last days)."""
    words = text.strip().split()
    zone = (
        words.pop() if len(words) > 1 and (words[-1] == "UTC" or ("/" in words[-1] and words[-1][0].isalpha())) else ""
    )
    plain = " ".join(words).lower()
    if plain in _SHORT:
        return _SHORT[plain], zone
    match = _FORM.fullmatch(plain)
    if match is None or not plain or match["second"] not in (None, "0", "00") or re.search(r"\b\d{4}-", plain):
        return None
    hour, minute = match["hour"] or "0", match["minute"] or "0"
    fields = [minute, hour, match["day"] or "*", match["month"] or "*", _days(match["days"])]
    if fields[2] != "*" and fields[4] != "*":
        return None  # cron takes either of the two, systemd both
    return " ".join(_field(part) for part in fields), zone


def _field(text: str) -> str:
    """``00/2`` counts from a start: ``0-59/2`` would need the end, ``*/2`` means it from 0."""
    text = text.replace("..", "-")
    parts = []
    for part in text.split(","):
        start, slash, step = part.partition("/")
        start = re.sub(r"\b0+(?=\d)", "", start)
        step = re.sub(r"^0+(?=\d)", "", step)
        parts.append(f"*/{step}" if slash and start in ("0", "*") else start + slash + step)
    return ",".join(parts)


def _days(text: str | None) -> str:
    if not text:
        return "*"
    return re.sub(r"[a-z]+", lambda match: str(_DAYS.index(match.group()[:3])), text.replace("..", "-"))
