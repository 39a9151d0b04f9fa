"""Settings come from the environment and the command line; an old name is accepted with a warning."""

from __future__ import annotations

import pytest

from streams.commands.options import _flags
from streams.settings import RENAMED, SettingsError, from_environment, load, table


def test_the_command_line_wins_over_the_environment() -> None:
    """What is not given keeps its default."""
    settings = load({"SLOTWISE_PARTITIONS": "4", "SLOTWISE_GROUP": "a", "HOME": "/"}, {"group": "b", "policy": None})
    assert (settings.partitions, settings.group, settings.policy) == (4, "b", "")


def test_an_unknown_setting_stops_the_start_with_the_nearest_name() -> None:
    """It would otherwise be ignored without a word."""
    with pytest.raises(SettingsError, match="did you mean SLOTWISE_PARTITIONS"):
        load({"SLOTWISE_PARTITION": "4"})
    with pytest.raises(SettingsError, match="SLOTWISE_PARTITIONS='0' cannot be used"):
        load({"SLOTWISE_PARTITIONS": "0"})


def test_what_kubernetes_injects_for_a_service_is_no_setting() -> None:
    """For a Service of ours, in any of its forms; a mistyped setting is still one."""
    injected = {
        "SLOTWISE_PORT": "tcp://10.96.0.1:6066",
        "SLOTWISE_SERVICE_HOST": "10.96.0.1",
        "SLOTWISE_SERVICE_PORT": "6066",
        "SLOTWISE_SERVICE_PORT_PAGES": "6066",
        "SLOTWISE_PORT_6066_TCP": "tcp://10.96.0.1:6066",
        "SLOTWISE_PORT_6066_TCP_PROTO": "tcp",
        "SLOTWISE_PORT_6066_TCP_ADDR": "10.96.0.1",
        "SLOTWISE_WEB_PORT": "tcp://10.96.0.2:80",
        "SLOTWISE_WEB_SERVICE_HOST": "10.96.0.2",
    }
    assert from_environment(injected) == {}
    with pytest.raises(SettingsError, match="SLOTWISE_PORT is no setting"):
        from_environment({"SLOTWISE_PORT": "6066"})


def test_an_old_name_counts_as_the_new_one_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Until the next minor version."""
    assert load({"SLOTWISE_DELIVERY_AUDIT_S": "0.5"}).delivery_check_s == 0.5
    assert caplog.messages == ["SLOTWISE_DELIVERY_AUDIT_S is now SLOTWISE_DELIVERY_CHECK_S; the old name will go."]
    assert from_environment({"SLOTWISE_DELIVERY_AUDIT_S": "0.5"}) == {"delivery_check_s": "0.5"}


@pytest.mark.parametrize("order", [1, -1])
def test_where_both_names_are_given_the_new_one_counts(order: int) -> None:
    """Whichever stands first."""
    both = [("SLOTWISE_DELIVERY_AUDIT_S", "0.5"), ("SLOTWISE_DELIVERY_CHECK_S", "0.7")]
    assert load(dict(both[::order])).delivery_check_s == 0.7


def test_an_old_name_is_none_of_another_setting_and_an_option_too() -> None:
    """The command line takes both spellings."""
    names = {row.name for row in table()}
    assert not names & set(RENAMED)
    assert set(RENAMED.values()) <= names
    assert _flags("delivery_check_s") == ("--delivery-check-s", "--delivery-audit-s")
    assert _flags("partitions") == ()
