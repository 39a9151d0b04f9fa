"""A worker's name in its group: the same after a restart, another one for each worker."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from streams.kafka.transport import Place
from streams.settings import Settings
from streams.worker import NameTakenError, claim_name, instance_id

if TYPE_CHECKING:
    from pathlib import Path


def test_a_restarted_worker_has_its_name_again_and_no_other_worker_has_it() -> None:
    """By host and address of its pages, in characters that Kafka takes; a name that was given stays."""
    first, second = Settings(web_port=6066), Settings(web_port=6067)
    assert instance_id(first) == instance_id(replace(first, partitions=3))
    assert instance_id(first) != instance_id(second) != instance_id(replace(second, web_host="::1"))
    assert re.fullmatch(r"[A-Za-z0-9._-]+", instance_id(replace(second, web_host="::1")))
    assert instance_id(replace(first, instance_id="router-7")) == "router-7"


def test_a_worker_on_any_free_port_has_no_name_nor_has_one_that_is_to_have_none() -> None:
    """Its next port is another one, and the broker would wait for the old name."""
    assert instance_id(Settings(instance_id="none")) == ""
    assert instance_id(Settings(web_port=0)) == ""
    assert claim_name(Settings(web_port=0)) is None


def test_two_workers_of_one_name_are_refused_on_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would take the other's place in the group; in another group, or under another name, there is no conflict."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = Settings(instance_id="one")
    assert claim_name(settings) is not None
    with pytest.raises(NameTakenError, match="named one in the group slotwise runs on this machine already: give"):
        claim_name(settings)
    assert claim_name(replace(settings, group="other")) is not None
    assert claim_name(replace(settings, instance_id="two")) is not None


def test_a_worker_whose_first_place_is_taken_back_at_once_intrudes() -> None:
    """The one that was there before takes it back at its next heartbeat, and stays."""
    place = Place(6.0)
    assert not place.intrudes("", 0.0)
    assert not place.intrudes("one-a", 1.0)
    assert not place.intrudes("one-a", 2.0)
    assert place.intrudes("one-b", 2.5)


def test_a_worker_that_had_its_place_for_long_or_was_silent_stays() -> None:
    """It gets its place again, as often as it is taken."""
    place = Place(6.0)
    for second, member in ((0.0, "one-a"), (20.0, "one-b"), (21.0, "one-c"), (22.0, "one-d")):
        assert not place.intrudes(member, second)
