"""The slots of a dispatcher: what options and fleet.toml say, and one sentence for each mistake in them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from streams.core.policy.document import RulebookError
from streams.dispatch.fleet import (
    Fleet,
    FleetError,
    FleetFile,
    SlotGroup,
    check_models,
    fleet_of,
    read_file,
    with_options,
)

WHOLE = """
pool = "agents"
exec = "./run.sh"
ttl_s = 30
grace_s = 2.5
environment = { LEVEL = "file", SHARED = "yes" }
models = { sonnet = "claude-sonnet-x" }
logs_keep = 7
log_bytes_max = 50_000

[[slot]]
id = "h"
model = "haiku"
concurrency = 2
environment = { LEVEL = "slot" }

[[slot]]
id = "s-1"
model = "sonnet"
account = "acct-2"
pool = "other"
preset = "claude"
arguments = ["--allowedTools", "Read"]
ttl_s = 5
grace_s = 0
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Give a folder with programs of the names that presets use."""
    for name in ("claude", "codex", "gemini", "ollama"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    return tmp_path


def fleet(text: str, tmp_path: Path, **outer: str) -> Fleet:
    """Read a file with this text."""
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return fleet_of(read_file(path), base=tmp_path, outer={"PATH": f"{tmp_path}:/bin:/usr/bin", **outer})


def options(*slots: str, exec_line: str | None = "true", preset: str | None = None, **changed: object) -> FleetFile:
    """Give what the command line makes of these options."""
    return with_options(FleetFile(), slots=slots, exec_line=exec_line, preset=preset, changed=changed)


def test_options_are_enough_for_a_fleet(tmp_path: Path) -> None:
    """--slot ID=MODEL@ACCOUNT and --exec: the line goes to the shell, all else is at its default."""
    made = fleet_of(options("h-1=haiku", "s-1=sonnet@acct-2", exec_line="./run.sh | cat"), base=tmp_path, outer={})
    assert [(one.spec.slot_id, one.spec.model, one.spec.account, one.spec.pool) for one in made.slots] == [
        ("h-1", "haiku", None, "main"),
        ("s-1", "sonnet", "acct-2", "main"),
    ]
    assert made.slots[0].command == ("/bin/sh", "-c", "./run.sh | cat")
    assert (made.slots[0].spec.ttl_s, made.slots[0].grace_s, made.logs_keep) == (60.0, 10.0, 50)


def test_a_file_says_what_holds_for_all_and_a_slot_what_it_has_of_its_own(programs: Path) -> None:
    """What a slot leaves out is as the file says; `concurrency` makes several slots."""
    made = fleet(WHOLE, programs)
    h_1, h_2, s_1 = made.slots
    assert [one.spec.slot_id for one in made.slots] == ["h-1", "h-2", "s-1"]
    assert (h_1.spec.pool, h_1.spec.ttl_s, h_1.grace_s, h_1.command) == (
        "agents",
        30,
        2.5,
        ("/bin/sh", "-c", "./run.sh"),
    )
    assert (h_2.environment["LEVEL"], h_2.environment["SHARED"]) == ("slot", "yes")
    assert (s_1.spec.pool, s_1.spec.account, s_1.spec.ttl_s, s_1.grace_s) == ("other", "acct-2", 5, 0)
    assert s_1.environment["LEVEL"] == "file"
    assert s_1.command[-4:] == ("--model", "claude-sonnet-x", "--allowedTools", "Read")
    assert (made.logs_keep, made.log_bytes_max) == (7, 50_000)


def test_a_command_gets_no_setting_of_slotwise_unless_the_fleet_names_it(tmp_path: Path) -> None:
    """SLOTWISE_DATABASE may hold a password: only what `environment` says goes on."""
    text = 'exec = "true"\nenvironment = { SLOTWISE_BROKER = "k:9092" }\nslot = [{ id = "a", model = "haiku" }]'
    (slot,) = fleet(text, tmp_path, SLOTWISE_DATABASE="postgresql://u:secret@db/x", API_KEY="k").slots
    assert {name: value for name, value in slot.environment.items() if name.startswith("SLOTWISE_")} == {
        "SLOTWISE_BROKER": "k:9092"
    }
    assert slot.environment["API_KEY"] == "k"


def test_an_option_wins_over_the_file(tmp_path: Path) -> None:
    """--exec takes the place of the file's command, --pool and --ttl that of its values; --slot adds."""
    file = FleetFile(command=("./old",), pool="old", ttl_s=5)
    made = with_options(
        file, slots=["a=haiku"], exec_line="new", preset=None, changed={"pool": "new", "ttl_s": 9.0, "grace_s": None}
    )
    (slot,) = fleet_of(made, base=tmp_path, outer={}).slots
    assert (slot.command[-1], slot.spec.pool, slot.spec.ttl_s, slot.grace_s) == ("new", "new", 9.0, 10.0)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a", "--slot a is not ID=MODEL or ID=MODEL@ACCOUNT, such as h-1=haiku."),
        ("a=", "--slot a= is not ID=MODEL"),
        ("a b=haiku", "--slot a b=haiku: its id has 1 to 128 letters, digits"),
        ("a=haiku@", "--slot a=haiku@ is not ID=MODEL"),
        ("a=haiku@x y", "its account has 1 to 128"),
        ("a=\x1b[31m@x y", "--slot a=\\u001b[31m@x y: its account"),
    ],
)
def test_a_slot_that_is_none_is_named(text: str, want: str) -> None:
    """What was typed stands in the sentence, harmless for a terminal."""
    with pytest.raises(FleetError) as refused:
        options(text)
    assert want in str(refused.value)


def test_other_options_that_cannot_be_are_named() -> None:
    """Two ways to say what runs, a preset or a pool that is none."""
    with pytest.raises(FleetError, match="--exec and --preset exclude each other"):
        options("a=haiku", exec_line="x", preset="claude")
    with pytest.raises(FleetError, match="There is no preset cluade"):
        options("a=haiku", exec_line=None, preset="cluade")
    with pytest.raises(FleetError, match="--pool has 1 to 128"):
        options("a=haiku", pool="a pool")


CASES = {
    "no slot": ('exec = "true"', "There is no slot: name one with --slot ID=MODEL, or with [[slot]] in a file."),
    "nothing to run": ('[[slot]]\nid = "a"\nmodel = "m"', "slot a: it has nothing to run"),
    "two things to run": (
        'exec = "x"\ncommand = ["true"]\n[[slot]]\nid = "a"\nmodel = "m"',
        "slot a: of exec, command and preset one can be there, and 2 are.",
    ),
    "an id twice": (
        'exec = "true"\nslot = [{ id = "a-1", model = "m" }, { id = "a", model = "m", concurrency = 2 }]',
        "slot a-1 of pool main is there twice",
    ),
    "no such program": (
        'command = ["no-such-program"]\n[[slot]]\nid = "a"\nmodel = "m"',
        "slot a: the program no-such-program is not there, or cannot be run.",
    ),
    "no such folder": (
        'exec = "true"\ndirectory = "gone"\n[[slot]]\nid = "a"\nmodel = "m"',
        "gone is not there.",
    ),
    "arguments without a preset": (
        'exec = "true"\narguments = ["-v"]\n[[slot]]\nid = "a"\nmodel = "m"',
        "slot a: arguments are for a preset",
    ),
    "an id that becomes too long": (
        f'exec = "true"\n[[slot]]\nid = "{"a" * 127}"\nmodel = "m"\nconcurrency = 10',
        "its id is too long for the number",
    ),
}


@pytest.mark.parametrize(("text", "want"), CASES.values(), ids=CASES)
def test_a_fleet_that_cannot_run_says_why(text: str, want: str, tmp_path: Path) -> None:
    """One sentence for each mistake, before anything is announced."""
    with pytest.raises(FleetError) as refused:
        fleet(text, tmp_path)
    assert want in str(refused.value)


def test_every_mistake_of_a_fleet_is_said_at_once(tmp_path: Path) -> None:
    """Two slots with a mistake each: two sentences."""
    text = 'slot = [{ id = "a", model = "m" }, { id = "b", model = "m", command = ["no-such-program"] }]'
    with pytest.raises(FleetError) as refused:
        fleet(text, tmp_path)
    assert [line.partition(":")[0] for line in str(refused.value).splitlines()] == ["slot a", "slot b"]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('exce = "x"', "exce is no known key. Did you mean exec?"),
        ('preset = "cluade"', "Did you mean claude?"),
        ("ttl_s = 0.1", "0.1 cannot be used"),
        ('environment = { "A B" = "x" }', "the key"),
        ('[[slot]]\nid = "a b"\nmodel = "m"', "'a b' cannot be used"),
        ("[[slot]]", "id is missing."),
    ],
)
def test_a_mistake_in_the_file_names_key_and_file(text: str, want: str, tmp_path: Path) -> None:
    """The sentences of policy and catalogue, for this file too."""
    with pytest.raises(RulebookError) as refused:
        fleet(text, tmp_path)
    assert want in str(refused.value)
    assert "fleet.toml" in str(refused.value)


def test_an_unknown_model_is_refused_with_the_slot_that_has_it(tmp_path: Path) -> None:
    """The sentence is the router's own; the fleet says whose it is."""
    made = fleet_of(options("a=haiku", "b=hiaku"), base=tmp_path, outer={})
    with pytest.raises(FleetError, match="slot b: model hiaku is not in the catalogue"):
        check_models(made, [None, "model hiaku is not in the catalogue. Did you mean haiku?"])
    check_models(made, [None, None])


def test_every_key_of_the_file_is_on_its_page_and_the_example_there_can_be_read(programs: Path) -> None:
    """docs/dispatch.md: a row for each key, and a fleet to copy."""
    page = (Path(__file__).parents[2] / "docs" / "dispatch.md").read_text()
    keys = {field.encode_name for kind in (FleetFile, SlotGroup) for field in msgspec.structs.fields(kind)}
    documented = {row.split("`")[1] for row in page.splitlines() if row.startswith("| `")}
    assert keys <= documented | {"id", "model", "account", "concurrency"}
    (example,) = [block.partition("```")[0] for block in page.split("```toml\n")[1:]]
    (programs / "sonnet").mkdir()
    assert [one.spec.slot_id for one in fleet(example, programs).slots] == ["h-1", "h-2", "h-3", "h-4", "s-1"]
