"""Sizes and spans of time as people write and read them. Pure; hot."""

from __future__ import annotations

_BINARY = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def parse_size(text: str) -> int:
    """Bytes from `1048576`, `64k`, `64M`, `1.5g`, `2gb`, `2GiB`: units of 1024 as Docker reads memory sizes. ValueError says what is wrong."""
    lowered = text.strip().lower()
    number = lowered.rstrip("bikmgtp ")
    unit = lowered[len(number) :].strip()
    if unit not in ("b", "") and unit.endswith("b"):
        unit = unit[:-1].removesuffix("i")
    whole, point, fraction = number.partition(".")
    digits = whole + fraction
    if unit not in _BINARY or not whole or (point and not fraction) or not (digits.isascii() and digits.isdecimal()):
        raise ValueError("write a number of bytes, or one with a unit: 512k, 64m, 1.5g")
    size: int = int(digits) * _BINARY[unit] // 10 ** len(fraction)
    return size


def human_size(size: int) -> str:
    """Bytes in units of 1000, three digits, as `docker images` shows them: `7.83MB`."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value /= 1000
    else:
        unit = "PB"
    return f"{value:.3g}{unit}"


def human_span(seconds: float) -> str:
    """A span of time in its largest fitting unit, as `docker ps` words it: `About a minute`, `3 hours`."""
    whole = max(0, int(seconds))
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = (whole + 1800) // 3600
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{days // 365} years"


def parse_time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time, or of its date alone (midnight UTC). ValueError for anything else.

    By hand, since `rl ps` reads one for each container and `import datetime` takes 2 ms.
    """
    date, separator, clock = text.upper().replace(" ", "T").partition("T")
    year, month, day = (int(part) for part in date.split("-"))
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        raise ValueError(f"{date} is no date")
    seconds = _days(year, month, day) * 86400.0
    if not separator:
        return seconds
    offset = 0
    if clock.endswith("Z"):
        clock = clock[:-1]
    else:
        sign = "-" if "-" in clock else "+"
        clock, separator, zone = clock.partition(sign)
        if not separator:
            raise ValueError(f"{text} has no time zone")
        hours, minutes = zone.split(":")
        offset = (int(hours) * 60 + int(minutes)) * (-60 if sign == "-" else 60)
    hour, minute, second = clock.split(":")
    return seconds + int(hour) * 3600 + int(minute) * 60 + float(second) - offset


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the proleptic Gregorian calendar; the year is counted from March, so that the leap day comes last."""
    year -= month <= 2
    months = (month + 9) % 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * months + 2) // 5 + day - 719469
