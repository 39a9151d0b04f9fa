"""The hours of `off_peak_pricing` as hours of the catalogue: days, midnight, and calendars ahead of UTC."""

from __future__ import annotations

from typing import Any

import pytest

from streams.core.policy.prices import EVERY_DAY
from streams.operate.off_peak import Hours, off_peak_hours

WEEKEND = (6, 7)
WORKDAYS = (1, 2, 3, 4, 5)

CASES: dict[str, tuple[dict[str, Any], tuple[Hours, ...]]] = {
    "every day, over midnight": ({"hours_utc": "16:30-00:30"}, (Hours("16:30", "00:30", EVERY_DAY),)),
    "several spans, which touch": (
        {"hours_utc": ["04:00-06:00", "06:00-07:00", "10:00-11:00"]},
        (Hours("04:00", "07:00", EVERY_DAY), Hours("10:00", "11:00", EVERY_DAY)),
    ),
    "the whole day": ({"hours_utc": "00:00-00:00"}, (Hours("00:00", "00:00", EVERY_DAY),)),
    "more at the weekend": (
        {
            "hours_utc": "01:00-02:00",
            "windows": [{"hours_utc": "00:00-00:00", "weekdays": ["Sat", "sunday"]}],
        },
        (Hours("00:00", "00:00", WEEKEND), Hours("01:00", "02:00", WORKDAYS)),
    ),
    "days that are read in Shanghai, where Saturday begins on Friday at 16:00 UTC": (
        {"weekday_timezone": "Asia/Shanghai", "windows": [{"hours_utc": "15:00-17:00", "weekdays": [6]}]},
        (Hours("15:00", "16:00", (6,)), Hours("16:00", "17:00", (5,))),
    ),
    "a calendar with summer time: only what holds in summer and in winter": (
        {"weekday_timezone": "Europe/Berlin", "windows": [{"hours_utc": "21:00-23:59", "weekdays": [1]}]},
        (Hours("21:00", "22:00", (1,)), Hours("23:00", "23:59", (7,))),
    ),
    "what cannot be read is passed over": (
        {"hours_utc": ["25:00-26:00", "night", 4], "windows": [7, {"hours_utc": "01:00-02:00", "weekdays": "Mon"}]},
        (),
    ),
    "days that do not exist": ({"windows": [{"hours_utc": "01:00-02:00", "weekdays": [0, 8, True, "Th"]}]}, ()),
    "no hours": ({"input_cost_per_token": 1}, ()),
}


@pytest.mark.parametrize(("block", "want"), [pytest.param(*case, id=name) for name, case in CASES.items()])
def test_hours_of_a_block(block: dict[str, Any], want: tuple[Hours, ...]) -> None:
    """As the vendor means them."""
    assert off_peak_hours(block) == want
