"""`slotwise policy` and `catalog`: all mistakes at once, differences by value, and an activated policy decides."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from slotwise import Client, Slot
from streams.estimate.service_time import OBSERVATIONS_MIN
from streams.shipped import ready_policies, shipped
from tests.functional.commands import slotwise
from tests.functional.fleets import announce, audited, look, order, pool_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.functional.commands import Up

PRICES = "tests/prices/litellm_slice.json"


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    """Give a policy that keeps premium for the upper 40 %."""
    file = tmp_path / "policy.toml"
    file.write_text(shipped("policy.toml").replace("ev_percentile = 0.50", "ev_percentile = 0.60"))
    return file


@pytest.fixture
def catalog_file(tmp_path: Path) -> Path:
    """Give a copy of the shipped catalogue."""
    file = tmp_path / "catalog.toml"
    file.write_text(slotwise("catalog", "show", "--text").stdout)
    return file


def test_all_mistakes_are_reported_together(policy_file: Path, catalog_file: Path) -> None:
    """One line each, with file, key and the nearest known key."""
    policy_file.write_text(policy_file.read_text().replace("priority_min = 90", "priorty_min = 90"))
    catalog_file.write_text(catalog_file.read_text().replace("tier = 3", "tier = 4", 1))
    checked = slotwise("policy", "check", str(policy_file), str(catalog_file))
    assert checked.returncode == 1
    assert "premium: priorty_min is no known key. Did you mean priority_min?" in checked.stderr
    assert "model[opus].tier" in checked.stderr
    told = slotwise("policy", "check", str(policy_file), str(catalog_file), "--json")
    assert len(json.loads(told.stdout)["mistakes"]) == 2


def test_a_policy_is_checked_with_the_catalogue_it_is_for(catalog_file: Path) -> None:
    """A model that the configured policy names must stand in it."""
    catalog_file.write_text(catalog_file.read_text().replace('id = "opus"', 'id = "opus-next"'))
    checked = slotwise("policy", "check", str(catalog_file))
    assert checked.returncode == 1
    assert "opus is no model of the catalogue. Did you mean opus-next?" in checked.stderr


def test_the_shipped_files_have_no_mistakes() -> None:
    """Without files, the configured ones are checked."""
    checked = slotwise("policy", "check")
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.rule("amend.51")
def test_a_short_policy_keeps_the_rest_of_the_shipped_one(tmp_path: Path) -> None:
    """The check lists what is left out, the values in force include it, and only what is written differs."""
    file = tmp_path / "short.toml"
    file.write_text("[premium]\nev_percentile = 0.6\n")
    checked = slotwise("policy", "check", str(file))
    assert checked.returncode == 0
    assert f"{file} leaves out, and so has as shipped: service, ev, premium.priority_min, " in checked.stdout
    told = json.loads(slotwise("policy", "check", str(file), "--json").stdout)
    assert "quota" in told["inherited"][str(file)]
    shown = slotwise("policy", "show", "--offline", "--policy", str(file))
    assert "# left out, and so as shipped: service, ev, premium.priority_min, " in shown.stdout
    assert 'strategy.preference.code = ["codex","sonnet","opus"]' in shown.stdout
    assert slotwise("policy", "diff", str(file), "--offline").stdout == "premium.ev_percentile 0.5 -> 0.6\n"


def test_a_ready_policy_is_printed_to_be_copied(tmp_path: Path) -> None:
    """What there is, each in a sentence; one of them as it is, without mistakes; and the nearest to a name mistyped."""
    listed = slotwise("policy", "ready")
    assert "subscriptions: For one person or a small team on flat subscriptions" in listed.stdout
    file = tmp_path / "my-policy.toml"
    file.write_text(slotwise("policy", "ready", "subscriptions").stdout)
    assert file.read_text() == ready_policies()["subscriptions"]
    assert slotwise("policy", "check", str(file)).returncode == 0
    assert json.loads(slotwise("policy", "ready", "--json").stdout) == ready_policies()
    refused = slotwise("policy", "ready", "subscription")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Did you mean subscriptions?" in refused.stderr


def test_a_difference_is_a_line_a_value(policy_file: Path, catalog_file: Path) -> None:
    """Exit code 1 where something differs, 0 where nothing does."""
    found = slotwise("policy", "diff", str(policy_file), "--offline")
    assert (found.returncode, found.stdout) == (1, "premium.ev_percentile 0.5 -> 0.6\n")
    catalog_file.write_text(catalog_file.read_text().replace("quality = 0.72", "quality = 0.75", 1))
    found = slotwise("policy", "diff", str(catalog_file), "--offline", "--json")
    assert json.loads(found.stdout) == [{"key": "model[opus].quality", "old": 0.72, "new": 0.75}]
    assert slotwise("policy", "diff", str(policy_file), "--offline", "--policy", str(policy_file)).returncode == 0


def test_the_policy_is_shown_with_every_value() -> None:
    """Those left at their default too."""
    told = json.loads(slotwise("policy", "show", "--offline", "--json").stdout)
    assert told["source"] == "files"
    assert told["sections"]["premium"]["ev_percentile"] == 0.5
    assert "premium.ev_percentile = 0.5" in slotwise("policy", "show", "--offline").stdout.splitlines()


def test_an_activated_policy_decides_everywhere_from_its_position_on(own_installation: Up, policy_file: Path) -> None:
    """It is in force in every partition, shown as such, and nothing differs from it any more."""
    announce(own_installation, "ruled", "opus-1")
    assert own_installation.command("policy", "diff", str(policy_file)).returncode == 1
    given = order(own_installation, "policy", "activate", "--policy", str(policy_file), "--by", "ann", "--yes")
    assert [one["fate"] for one in given["positions"]] == ["taken"] * 8
    assert own_installation.command("policy", "diff", str(policy_file)).returncode == 0
    shown = json.loads(own_installation.command("policy", "show", "--json").stdout)
    assert (shown["source"], shown["sections"]["premium"]["ev_percentile"], shown["others"]) == ("activated", 0.6, {})
    assert "The files here say otherwise" in own_installation.command("policy", "show").stderr
    assert audited(own_installation, given["control_id"])["by"] == "ann"
    assert look(own_installation, "ruled").well


def test_activating_shows_what_differs_and_asks(own_installation: Up, policy_file: Path) -> None:
    """Without arguments it is a mistake; without a terminal and without --yes nothing is sent."""
    policy_file.write_text("[premium]\nev_percentile = 0.7\n")
    before = own_installation.command("policy", "show", "--text").stdout
    bare = own_installation.command("policy", "activate")
    assert (bare.returncode, bare.stdout) == (2, "")
    assert "--shipped" in bare.stderr
    unasked = own_installation.command("policy", "activate", "--policy", str(policy_file))
    assert unasked.returncode == 2
    assert "-> 0.7\n" in unasked.stderr
    assert "add --yes" in unasked.stderr
    assert own_installation.command("policy", "activate", "--shipped", "--policy", str(policy_file)).returncode == 2
    assert own_installation.command("policy", "show", "--text").stdout == before
    order(own_installation, "policy", "activate", "--shipped", "--yes")
    assert own_installation.command("policy", "show", "--text").stdout == shipped("policy.toml")


def test_the_policy_is_printed_as_a_file_to_copy(tmp_path: Path) -> None:
    """The shipped one with its comments; one that leaves things out is made whole."""
    assert slotwise("policy", "show", "--text", "--offline").stdout == shipped("policy.toml")
    short = tmp_path / "short.toml"
    short.write_text("[premium]\nev_percentile = 0.6\n")
    file = tmp_path / "whole.toml"
    file.write_text(slotwise("policy", "show", "--text", "--offline", "--policy", str(short)).stdout)
    checked = slotwise("policy", "check", str(file))
    assert (checked.returncode, "leaves out" in checked.stdout) == (0, False)
    assert slotwise("policy", "diff", str(file), "--offline").stdout == "premium.ev_percentile 0.5 -> 0.6\n"


def test_a_catalogue_that_lacks_a_slot_s_model_is_activated_nowhere(own_installation: Up, catalog_file: Path) -> None:
    """One partition could not decide by it, so no partition gets it; the sentence says which and why."""
    announce(own_installation, "glazed", "glm-1")
    before = pool_of(own_installation, "glazed").models
    text = re.sub(r'\[\[model\]\]\nid = "glm"\n.*?(?=\[\[model\]\])', "", catalog_file.read_text(), flags=re.DOTALL)
    catalog_file.write_text(text)
    done = own_installation.command("policy", "activate", "--catalog", str(catalog_file), "--yes")
    assert done.returncode == 2
    assert "the new catalogue lacks glm" in done.stderr
    assert pool_of(own_installation, "glazed").models == before


def test_a_proposal_is_replayed_and_shadowed_before_it_is_activated(own_installation: Up, policy_file: Path) -> None:
    """Each step is an order of one proposal in the audit, and the replay is that of the work that was done here."""
    order(own_installation, "policy", "activate", "--shipped", "--yes")
    with (
        Client(bootstrap_servers=own_installation.at.broker) as client,
        Slot("p-haiku-1", pool="proposed", model="haiku", client=client) as slot,
    ):
        # So many pieces of work a replay wants to see before it says how long work takes.
        for number in range(OBSERVATIONS_MIN):
            client.submit(pool="proposed", task_id=f"p-{number}", ev=float(number))
        for _, work in zip(range(OBSERVATIONS_MIN), slot, strict=False):
            with work:
                work.used(output_tokens=80)
    policy_file.write_text("[lift]\nev_percentile = 0.7\n")
    done = own_installation.command(
        *("policy", "propose", str(policy_file), "--yes", "--from", "1h", "--shadow", "1s", "--by", "ann", "--json")
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(one["step"], one["outcome"]) for one in told["steps"]] == [
        (step, "done") for step in ("check", "diff", "replay", "shadow", "report")
    ]
    assert f"of {OBSERVATIONS_MIN} tasks got another model" in told["steps"][2]["found"]
    shown = json.loads(own_installation.command("policy", "show", "--json").stdout)
    assert (shown["source"], shown["sections"]["lift"]["ev_percentile"]) == ("activated", 0.7)
    assert audited(own_installation, f"{told['proposal']}-activate")["by"] == "ann"
    # Activated once more, they do not count as never replayed.
    order(own_installation, "policy", "activate", "--shipped", "--yes")
    again = own_installation.command("policy", "activate", "--policy", str(policy_file), "--yes")
    assert (again.returncode, "were never replayed" in again.stderr) == (0, False)


def test_a_policy_with_mistakes_is_not_sent(own_installation: Up, policy_file: Path) -> None:
    """The message is that of a start."""
    policy_file.write_text("[premum]\n")
    done = own_installation.command("policy", "activate", "--policy", str(policy_file))
    assert done.returncode == 2
    assert "Did you mean premium?" in done.stderr


def test_prices_are_refreshed_from_the_file_that_people_have(catalog_file: Path) -> None:
    """First shown, then written; comments stay, and the result is a catalogue to start with."""
    text = catalog_file.read_text().replace("input_usd_per_mtok = 4.0", "input_usd_per_mtok = 5.0", 1)
    catalog_file.write_text(text)
    words = ("catalog", "refresh", PRICES, "--catalog", str(catalog_file), "--as-of", "2026-12-01")
    shown = json.loads(slotwise(*words, "--json").stdout)
    assert shown["written"] is False
    assert shown["models"][0]["changes"] == [{"key": "input_usd_per_mtok", "old": 5.0, "new": 4.0}]
    assert (shown["models"][0]["left"], shown["models"][0]["notes"]) == (None, [])
    assert catalog_file.read_text() == text
    written = slotwise(*words, "--write")
    assert written.returncode == 0, written.stderr
    assert "1 values differ in 8 priced models; written to" in written.stdout
    assert "local: left alone: a 32B coder on a machine you own is not in the file." in written.stderr
    lines = catalog_file.read_text().splitlines()
    assert "priced_at = 2026-12-01" in lines
    assert [line for line in lines if "#" in line] == [line for line in text.splitlines() if "#" in line]
    assert slotwise("policy", "check", str(catalog_file)).returncode == 0


def test_a_catalogue_from_another_system_stays_one(catalog_file: Path) -> None:
    """CRLF line ends and a byte order mark, before and after; a link stays a link."""
    text = catalog_file.read_text().replace("input_usd_per_mtok = 4.0", "input_usd_per_mtok = 5.0", 1)
    catalog_file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    link = catalog_file.with_name("link.toml")
    link.symlink_to(catalog_file)
    written = slotwise("catalog", "refresh", PRICES, "--catalog", str(link), "--write")
    assert written.returncode == 0, written.stderr
    assert link.is_symlink()
    raw = catalog_file.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf#")
    assert raw.count(b"\n") == raw.count(b"\r\n") >= text.count("\n")
    assert b"input_usd_per_mtok = 4.0\r\n" in raw


def test_models_in_one_line_each_are_refreshed(tmp_path: Path) -> None:
    """An array of inline tables is a catalogue as well."""
    file = tmp_path / "catalog.toml"
    ratings = "{ coding = 1, safety = 1, reasoning = 1, analysis = 1, speed = 1, instruction_following = 1 }"
    shown = json.loads(slotwise("catalog", "show", "--json").stdout)
    file.write_text(
        "model = [\n"
        + "".join(
            f'  {{ id = "{model["id"]}", provider = "p", product = "{model["product"]}", tier = 1, '
            f'ratings = {ratings}, context_window = 9, output_tokens_max = 8, priced_as = "claude-opus-5-5" }},\n'
            for model in shown
        )
        + "]\n"
    )
    written = slotwise("catalog", "refresh", PRICES, "--catalog", str(file), "--write")
    assert written.returncode == 0, written.stderr
    assert file.read_text().count("input_usd_per_mtok = 4.0, output_usd_per_mtok = 20.0") == 9


def test_a_source_that_cannot_be_stored_is_refused(catalog_file: Path) -> None:
    """Bytes of another encoding on the command line are no text."""
    refused = slotwise("catalog", "refresh", PRICES, "--catalog", str(catalog_file), "--write", "--source", "caf\udce9")
    assert refused.returncode == 2
    assert "--source" in refused.stderr


def test_the_shipped_catalogue_is_never_written_to() -> None:
    """The sentence says how to get one of one's own."""
    refused = slotwise("catalog", "refresh", PRICES, "--write")
    assert refused.returncode == 2
    assert "slotwise catalog show --text > catalog.toml" in refused.stderr


def test_a_file_that_is_no_price_file_is_refused() -> None:
    """Nothing is compared."""
    refused = slotwise("catalog", "refresh", "schemas/json/slot.freed.schema.json")
    assert refused.returncode == 2
    assert "is not LiteLLM's price file" in refused.stderr


def test_the_catalogue_is_shown_with_its_prices() -> None:
    """A row a model."""
    told = json.loads(slotwise("catalog", "show", "--json").stdout)
    assert told[0]["id"] == "opus"
    assert slotwise("catalog", "show").stdout.count("\n") == len(told) + 1
