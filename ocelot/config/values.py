"""The small languages inside of scalars: durations, sizes, signals, octal modes.

Every parser takes the text as it stands in the file and raises ValueError with a message that says what is wrong and
proposes the mend. Nothing is guessed: ``30`` could be seconds or minutes, so it is refused.
"""

from __future__ import annotations

import re
import signal
import warnings

from ocelot.config.findings import quoted, suggest

_UNITS = {
    "ns": 1,
    "us": 1000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
    "w": 7 * 86400 * 10**9,
    "M": 2_630_016 * 10**9,  # 30.44 days, as humantime has it
    "y": 31_557_600 * 10**9,  # 365.25 days
}
"""Nanoseconds in a unit."""

_LONG_UNITS = {
    "nsec": "ns",
    "nanos": "ns",
    "usec": "us",
    "µs": "us",
    "micros": "us",
    "msec": "ms",
    "millis": "ms",
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "min": "m",
    "mins": "m",
    "minute": "m",
    "minutes": "m",
    "hr": "h",
    "hrs": "h",
    "hour": "h",
    "hours": "h",
    "day": "d",
    "days": "d",
    "week": "w",
    "weeks": "w",
    "month": "M",
    "months": "M",
    "year": "y",
    "years": "y",
}
MAX_DURATION = 1000 * 31_557_600.0

_TERM = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([a-zA-Zµ]+)\s*", re.ASCII)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds. Takes humantime text: ``1m 30s``, ``250ms``, ``1.5s``, ``2h``, ``1h30m``, ``2days``."""
    stripped = text.strip()
    if not stripped:
        raise ValueError('a duration is empty: write for example "30s"')
    if _NUMBER.fullmatch(stripped):
        raise ValueError(
            f'{quoted(text)} has no unit: write "{stripped}s" for seconds, or "{stripped}ms", "{stripped}m"'
        )
    if stripped.startswith("-"):
        raise ValueError(f"{quoted(text)} is negative: a duration counts from zero")
    total, position = 0.0, 0
    while position < len(stripped):
        term = _TERM.match(stripped, position)
        if term is None:
            raise ValueError(f'{quoted(text)} is not a duration: write for example "1m 30s", "250ms" or "1.5s"')
        amount, scale = _scaled(term[1])
        total += amount * _unit(term[2], text) / (scale * 10**9)
        position = term.end()
    if total > MAX_DURATION:
        raise ValueError(f"{quoted(text)} is too long: the limit is 1000 years")
    return total


def _scaled(number: str) -> tuple[int, int]:
    """``1.25`` as 125 and 100: exact, and without the import of fractions, which a boot would pay for."""
    whole, _, rest = number.partition(".")
    return int(whole + rest), 10 ** len(rest)


def _unit(word: str, text: str) -> int:
    unit = _LONG_UNITS.get(word, word)
    if unit in _UNITS:
        return _UNITS[unit]
    lower = word.lower()
    if _LONG_UNITS.get(lower, lower) in _UNITS:
        meant: str | None = lower
    else:
        meant = suggest(word, [*_UNITS, *_LONG_UNITS])
    ending = f'did you mean "{meant}"?' if meant else "the units are ns, us, ms, s, m, h, d, w"
    raise ValueError(f"{quoted(text)} has the unknown unit {quoted(word)}: {ending}")


def format_duration(seconds: float) -> str:
    """``1m 30s``, ``250ms``, ``1.5s``: text that ``parse_duration`` reads back, exact to the nanosecond."""
    nanoseconds = round(seconds * 10**9)
    if nanoseconds == 0:
        return "0s"
    for unit, length in (("ns", 10**3), ("us", 10**6), ("ms", 10**9)):
        if nanoseconds < length:
            return _decimal(nanoseconds, length // 1000) + unit
    parts = []
    for unit, length in (("d", 86400 * 10**9), ("h", 3600 * 10**9), ("m", 60 * 10**9)):
        count, nanoseconds = divmod(nanoseconds, length)
        if count:
            parts.append(f"{count}{unit}")
    if nanoseconds:
        parts.append(_decimal(nanoseconds, 10**9) + "s")
    return " ".join(parts)


def _decimal(amount: int, one: int) -> str:
    whole, rest = divmod(amount, one)
    digits = str(rest).rjust(len(str(one)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


_SIZE = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([a-zA-Z]*)", re.ASCII)
_PREFIXES = "kmgtpe"


def parse_size(text: str) -> int:
    """Bytes. Takes a plain number, SI (``10MB`` is 10,000,000) and IEC (``512KiB`` is 524,288), in any case."""
    stripped = text.strip()
    match = _SIZE.fullmatch(stripped)
    if match is None:
        if stripped.startswith("-"):
            raise ValueError(f"{quoted(text)} is negative: a size counts from zero")
        raise ValueError(f'{quoted(text)} is not a size: write for example "10MB", "512KiB" or 65536')
    unit = match[2].lower()
    factor = _size_factor(unit)
    if factor is None:
        raise ValueError(f"{quoted(text)} has the unknown unit {quoted(match[2])}: write for example MB or MiB")
    amount, scale = _scaled(match[1])
    size, rest = divmod(amount * factor, scale)
    if rest and factor == 1:
        raise ValueError(f"{quoted(text)} is not a whole number of bytes")
    if size >= 2**63:
        raise ValueError(f"{quoted(text)} is too large: the limit is 8 EiB")
    return size


def _size_factor(unit: str) -> int | None:
    if unit in ("", "b"):
        return 1
    power = _PREFIXES.find(unit[0]) + 1
    if power and unit[1:] in ("", "b"):
        return int(1000**power)
    if power and unit[1:] in ("i", "ib"):
        return int(1024**power)
    return None


def parse_limit(text: str) -> int:
    """A resource limit (getrlimit(2)): a number, a size such as ``64MiB``, or ``unlimited``, which is -1."""
    if text.strip().lower() in ("unlimited", "infinity"):
        return -1
    try:
        return parse_size(text)
    except ValueError as error:
        message = str(error).partition(":")[0].replace("a size", "a limit")
        raise ValueError(f'{message}: write for example 1024, "64MiB" or "unlimited"') from None


_CPUS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(%?)", re.ASCII)


def parse_cpus(text: str) -> float:
    """How many processors' worth of time: ``1.5``, or ``150%`` of one."""
    match = _CPUS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f'{quoted(text)} is not a share of processors: write for example 1.5 or "150%"')
    return float(match[1]) / 100 if match[2] else float(match[1])


_REALTIME = re.compile(r"RT(MIN|MAX)(?:([+-])([0-9]+))?", re.ASCII)


def parse_signal(text: str) -> int:
    """A signal number from ``SIGTERM``, ``TERM``, ``sigterm``, ``SIGRTMIN+3`` or ``15`` (signal(7))."""
    word = text.strip()
    if word.isascii() and word.isdigit():
        number = int(word[:20])
        if not 1 <= number <= signal.SIGRTMAX:
            raise ValueError(
                f'there is no signal {word[:20]}: write a name such as "SIGTERM", or 1 to {int(signal.SIGRTMAX)}'
            )
        return number
    name = word.upper().removeprefix("SIG")
    realtime = _REALTIME.fullmatch(name)
    if realtime:
        return _realtime_signal(realtime, text)
    known = getattr(signal, f"SIG{name}", None)
    if not isinstance(known, signal.Signals):
        names = [each.name for each in signal.Signals]
        meant = suggest(f"SIG{name}", names)
        ending = f'did you mean "{meant}"?' if meant else 'write for example "SIGTERM" or "SIGINT"'
        raise ValueError(f"there is no signal {quoted(text)}: {ending}")
    return int(known)


def _realtime_signal(match: re.Match[str], text: str) -> int:
    base = int(signal.SIGRTMIN if match[1] == "MIN" else signal.SIGRTMAX)
    offset = int(match[3][:9]) if match[3] else 0
    number = base + (offset if match[2] == "+" else -offset)
    if not signal.SIGRTMIN <= number <= signal.SIGRTMAX:
        last = int(signal.SIGRTMAX) - int(signal.SIGRTMIN)
        raise ValueError(f"there is no signal {quoted(text)}: they go from SIGRTMIN to SIGRTMIN+{last}")
    return number


def parse_mode(text: str) -> int:
    """Permission bits from octal digits: ``0644``, ``644``, ``0o1777`` (chmod(2))."""
    digits = text.strip().lower().removeprefix("0o")
    if not digits or not digits.isascii() or not digits.isdigit():
        raise ValueError(f'{quoted(text)} is not a mode: write octal digits such as "0644" or "0755"')
    if set(digits) & {"8", "9"}:
        raise ValueError(f"{quoted(text)} is not octal: the digits of a mode go from 0 to 7")
    if len(digits.lstrip("0")) > 4 or int(digits, 8) > 0o7777:
        raise ValueError(f'{quoted(text)} is too large for a mode: write for example "0644" or "1777"')
    return int(digits, 8)


def parse_pattern(text: str) -> re.Pattern[str]:
    """A regular expression. What Python warns about (``[[`` may mean something else one day) goes to nobody's console."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{quoted(text)} is not a regular expression: {error}") from None


def is_numeric_address(host: str) -> bool:
    """Whether ``host`` is an IPv4 address, or an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    import socket

    family = socket.AF_INET
    if host.startswith("[") and host.endswith("]"):
        host, family = host[1:-1], socket.AF_INET6
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True
