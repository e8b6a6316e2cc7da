"""When to renew, and when to try again: exact instants."""

from __future__ import annotations

import pytest

from leasehold._renewal import Renewal, Terms
from leasehold.schedule import beat_in, renew_in, retry_in


def test_a_renewal_is_due_at_two_thirds_of_the_life_and_a_little_earlier_by_chance() -> None:
    assert renew_in(300, extensible=True, random=0.0) == pytest.approx(200)
    assert renew_in(300, extensible=True, random=0.999) == pytest.approx(170, abs=0.1)


def test_what_cannot_live_longer_is_renewed_at_its_end() -> None:
    assert renew_in(300, extensible=False, random=0.5) == 300


def test_a_short_life_makes_no_storm() -> None:
    assert renew_in(0.2, extensible=True, random=0.0) == 1
    assert renew_in(-5, extensible=False, random=0.0) == 1


def test_waits_double_up_to_half_a_minute_and_half_of_each_is_chance() -> None:
    longest = [retry_in(failures, random=1.0) for failures in range(1, 9)]
    assert longest == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert [retry_in(failures, random=0.0) for failures in (1, 2, 100)] == [0.25, 0.5, 15]


def test_the_broker_is_never_asked_again_sooner_than_it_said() -> None:
    assert retry_in(1, random=0.0, asked=7.0) == 7
    assert retry_in(9, random=1.0, asked=7.0) == 30


def test_no_server_makes_us_hammer_the_broker() -> None:
    renewal = Renewal(Terms("tsk_00", "token", "a", None, None, None, "key"), lambda: 0.0)
    waits = [renewal.replace_in(now) for now in (7.0, 7.04, 7.1, 9.0)]
    assert waits == pytest.approx([0, 0.06, 0.1, 0])


def test_heartbeats_come_twice_in_their_interval() -> None:
    assert beat_in(10) == 5
