# SPDX-License-Identifier: Apache-2.0
"""Go's time.Time as templates see it (specs/go-template.md §12.1). Pure: the caller gives the time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from fairlead.gotemplate.values import INT, STRING, Func, Int64, Struct, Type, Whole

_MONTHS: Final = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS: Final = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]


class Month(Whole):
    """time.Month: prints its name, `%d` its number."""

    GO_TYPE = "time.Month"
    KIND = "int"

    def go_string(self) -> str:
        """Return the English name."""
        return _MONTHS[self - 1]


class Weekday(Whole):
    """time.Weekday: 0 is Sunday."""

    GO_TYPE = "time.Weekday"
    KIND = "int"

    def go_string(self) -> str:
        """Return the English name."""
        return _DAYS[self]


_ELEMENTS: Final = re.compile(
    r"January|Jan(?![a-z])|Monday|Mon(?![a-z])|MST"
    r"|2006|__2|_2(?!006)|002|0[1-6]|15|1|2|3|4|5|PM|pm"
    r"|[-Z]07(?::?00(?::?00)?)?"
    r"|[.,](?:0+|9+)(?![0-9])"
)


class Time(Struct):
    """A moment with nanoseconds and a zone.

    Args:
        seconds: since 1970-01-01 UTC, whole.
        nanosecond: 0 to 999,999,999.
        offset: seconds east of UTC.
        zone: the zone's abbreviation; "" when only the offset is known.
        running: seconds since the process began, for a reading of the running clock.
    """

    __slots__ = ("nanosecond", "offset", "running", "seconds", "zone")
    GO_TYPE = "time.Time"

    def __init__(
        self,
        seconds: int,
        nanosecond: int = 0,
        offset: int = 0,
        zone: str = "UTC",
        running: float | None = None,
    ) -> None:
        self.seconds = seconds
        self.nanosecond = nanosecond
        self.offset = offset
        self.zone = zone
        self.running = running

    @property
    def local(self) -> datetime:
        """The date and time of day in its zone, without the fraction."""
        zone = timezone(timedelta(seconds=self.offset))
        return datetime.fromtimestamp(self.seconds, zone)

    def go_string(self) -> str:
        """Return what printing it shows."""
        text = self.format("2006-01-02 15:04:05.999999999 -0700 MST")
        if self.running is not None:
            text += f" m={self.running:+.9f}"
        return text

    def format(self, layout: str) -> str:
        """Return it in a layout: the reference time Mon Jan 2 15:04:05 2006 spelt as wanted."""
        return _ELEMENTS.sub(lambda found: self._element(found.group()), layout)

    def _element(self, element: str) -> str:
        now = self.local
        match element:
            case "January":
                return _MONTHS[now.month - 1]
            case "Jan":
                return _MONTHS[now.month - 1][:3]
            case "Monday":
                return _DAYS[now.isoweekday() % 7]
            case "Mon":
                return _DAYS[now.isoweekday() % 7][:3]
            case "1":
                return str(now.month)
            case "01":
                return f"{now.month:02}"
            case "2":
                return str(now.day)
            case "_2":
                return f"{now.day:2}"
            case "02":
                return f"{now.day:02}"
            case "002":
                return f"{now.timetuple().tm_yday:03}"
            case "__2":
                return f"{now.timetuple().tm_yday:3}"
            case "15":
                return f"{now.hour:02}"
            case "3":
                return str(now.hour % 12 or 12)
            case "03":
                return f"{now.hour % 12 or 12:02}"
            case "4":
                return str(now.minute)
            case "04":
                return f"{now.minute:02}"
            case "5":
                return str(now.second)
            case "05":
                return f"{now.second:02}"
            case "2006":
                return f"{now.year:04}"
            case "06":
                return f"{now.year % 100:02}"
            case "PM":
                return "PM" if now.hour >= 12 else "AM"
            case "pm":
                return "pm" if now.hour >= 12 else "am"
            case "MST":
                return self.zone or self._offset("-07" if self.offset % 3600 == 0 else "-0700")
            case _ if element[0] in "-Z":
                return self._offset(element)
            case _:
                return self._fraction(element)

    def _offset(self, element: str) -> str:
        if element[0] == "Z" and not self.offset:
            return "Z"
        sign, rest = "-" if self.offset < 0 else "+", abs(self.offset)
        hours, minutes, seconds = rest // 3600, rest // 60 % 60, rest % 60
        colon = ":" if ":" in element else ""
        parts = [f"{hours:02}", f"{minutes:02}", f"{seconds:02}"]
        wanted = sum(char.isdigit() for char in element) // 2
        return sign + colon.join(parts[:wanted])

    def _fraction(self, element: str) -> str:
        digits = f"{self.nanosecond:09}"[: len(element) - 1].ljust(len(element) - 1, "0")
        if element[1] == "9":
            digits = digits.rstrip("0")
        return element[0] + digits if digits else ""

    def moved(self, years: int, months: int, days: int) -> Time:
        """Return the time so much later; a day that does not exist runs into the next month."""
        now = self.local
        month = now.month - 1 + months
        first = now.replace(year=now.year + years + month // 12, month=month % 12 + 1, day=1)
        then = first + timedelta(days=now.day - 1 + days)
        return Time(int(then.timestamp()), self.nanosecond, self.offset, self.zone)

    def nanoseconds(self) -> int:
        """Return nanoseconds since 1970."""
        return self.seconds * 10**9 + self.nanosecond


def parse_rfc3339(text: str) -> Time:
    """Return the time an RFC 3339 text names, e.g. 2024-05-06T07:08:09.5Z."""
    head, fraction = text, ""
    if found := re.search(r"\.(\d+)", text):
        head, fraction = text[: found.start()] + text[found.end() :], found.group(1)
    then = datetime.fromisoformat(head)
    offset = int((then.utcoffset() or timedelta()).total_seconds())
    zone = "UTC" if text.endswith("Z") else ""
    return Time(
        int(then.astimezone(UTC).timestamp()), int(fraction[:9].ljust(9, "0") or 0), offset, zone
    )


_TIME: Final = Type("time.Time", frozenset((Time,)))

Time.METHODS = {
    "Format": Func(Time.format, (_TIME, STRING)),
    "String": Func(Time.go_string, (_TIME,)),
    "Unix": Func(lambda time: Int64(time.seconds), (_TIME,)),
    "UnixMilli": Func(lambda time: Int64(time.nanoseconds() // 10**6), (_TIME,)),
    "UnixNano": Func(lambda time: Int64(time.nanoseconds()), (_TIME,)),
    "Year": Func(lambda time: time.local.year, (_TIME,)),
    "Month": Func(lambda time: Month(time.local.month), (_TIME,)),
    "Day": Func(lambda time: time.local.day, (_TIME,)),
    "Hour": Func(lambda time: time.local.hour, (_TIME,)),
    "Minute": Func(lambda time: time.local.minute, (_TIME,)),
    "Second": Func(lambda time: time.local.second, (_TIME,)),
    "Nanosecond": Func(lambda time: time.nanosecond, (_TIME,)),
    "YearDay": Func(lambda time: time.local.timetuple().tm_yday, (_TIME,)),
    "Weekday": Func(lambda time: Weekday(time.local.isoweekday() % 7), (_TIME,)),
    "UTC": Func(lambda time: Time(time.seconds, time.nanosecond, running=time.running), (_TIME,)),
    "Local": Func(lambda time: time, (_TIME,)),
    "AddDate": Func(Time.moved, (_TIME, INT, INT, INT)),
    "Before": Func(lambda one, two: one.nanoseconds() < two.nanoseconds(), (_TIME, _TIME)),
    "After": Func(lambda one, two: one.nanoseconds() > two.nanoseconds(), (_TIME, _TIME)),
    "Equal": Func(lambda one, two: one.nanoseconds() == two.nanoseconds(), (_TIME, _TIME)),
    "IsZero": Func(lambda time: time.seconds == -62135596800 and not time.nanosecond, (_TIME,)),
}
