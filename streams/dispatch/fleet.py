"""The slots of one `slotwise dispatch`, and what each runs: from a file such as fleet.toml, from options, or both.

Options are for the first minute: a slot is `ID=MODEL` or `ID=MODEL@ACCOUNT`, and one command is for all. The file has
what a fleet needs; an option counts for whatever the file leaves open.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from schemas.vocabulary import ID_PATTERN, Id, Word
from streams.client.conversation import SlotSpec
from streams.core.policy.document import nearest, read
from streams.dispatch.presets import PRESETS, Preset, PresetName
from streams.errors import MISTAKE, SlotwiseError
from streams.text import printable
from streams.text_file import read_text_file

SHELL: Final = "/bin/sh"
_SLOT: Final = re.compile(r"(?P<id>[^=]+)=(?P<model>[^@]+)(?:@(?P<account>.+))?")
#: Variables of the dispatcher that a command gets only where the fleet's `environment` names them: they may hold the
#: way into Kafka and Postgres.
_OWN_VARIABLES: Final = "SLOTWISE_"
_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)"

Environment = dict[Annotated[str, Meta(pattern=_NAME)], Annotated[str, Meta(pattern=r"^[^\x00]*$")]]
Line = Annotated[str, Meta(min_length=1, max_length=8192)]
Words = Annotated[tuple[Line, ...], Meta(max_length=256)]


class FleetError(SlotwiseError):
    """The slots or their commands cannot be used; the message has one sentence for each mistake."""

    exit_code = MISTAKE


class Runs(Struct, frozen=True, kw_only=True):
    """What a slot runs: one of the first three, or none of them."""

    #: A line for the shell.
    exec: Annotated[str, Meta(max_length=8192)] = ""
    #: A program and its arguments, without a shell.
    command: Words = ()
    #: Builds the command line of a vendor's program.
    preset: PresetName | None = None
    #: Put behind what the preset builds.
    arguments: Words = ()

    @property
    def named(self) -> int:
        """How many of the three are there."""
        return bool(self.exec) + bool(self.command) + (self.preset is not None)


class SlotGroup(Runs, frozen=True, kw_only=True):
    """One `[[slot]]` of the file: one slot, or several alike. What it leaves out is as the file says for all."""

    id: Id
    model: Word
    account: Id | None = None
    pool: Id | None = None
    #: With a number there are so many slots: `h` becomes `h-1`, `h-2`, ...
    concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None
    directory: Line | None = None
    environment: Environment = {}
    ttl_s: Annotated[float, Meta(ge=1.0, le=86_400.0)] | None = None
    grace_s: Annotated[float, Meta(ge=0.0, le=3600.0)] | None = None


class FleetFile(Runs, frozen=True, kw_only=True):
    """A whole file: what holds for all slots, and the slots."""

    pool: Id = "main"
    #: Where the commands run.
    directory: Line = "."
    environment: Environment = {}
    #: How a preset's program calls a model of the catalogue; without a row: as the catalogue does.
    models: dict[Word, Word] = {}
    #: A slot that is silent for longer is lost.
    ttl_s: Annotated[float, Meta(ge=1.0, le=86_400.0)] = 60.0
    #: From TERM to KILL.
    grace_s: Annotated[float, Meta(ge=0.0, le=3600.0)] = 10.0
    #: Of each slot, the logs of so many tasks are kept.
    logs_keep: Annotated[int, Meta(ge=1, le=100_000)] = 50
    #: Of each task, between one and two times so many of the last bytes.
    log_bytes_max: Annotated[int, Meta(ge=4096, le=1_000_000_000)] = 1_000_000
    slot: Annotated[tuple[SlotGroup, ...], Meta(max_length=1000)] = ()


class FleetSlot(Struct, frozen=True, kw_only=True):
    """One slot, with all that its tasks are run by."""

    #: As it is announced.
    spec: SlotSpec
    grace_s: float
    #: Program and arguments; the model's name and such are filled in for each task.
    command: tuple[str, ...]
    preset: Preset | None
    directory: Path
    environment: dict[str, str]


class Fleet(Struct, frozen=True, kw_only=True):
    """What one dispatcher serves."""

    slots: tuple[FleetSlot, ...]
    logs_keep: int
    log_bytes_max: int


def read_file(path: Path | str) -> FleetFile:
    """Read a fleet.

    Raises:
        TextFileError: it cannot be read.
        RulebookError: it holds mistakes; there is a sentence for each.
    """
    return read(read_text_file(path), FleetFile, str(path))


def with_options(
    file: FleetFile,
    *,
    slots: Sequence[str],
    exec_line: str | None,
    preset: str | None,
    changed: Mapping[str, object],
) -> FleetFile:
    """Return the file with the options of the command line; an option wins over the file's own.

    `changed` has other fields of the file; one that is None is as the file says.

    Raises:
        FleetError: an option is not of its form.
    """
    if exec_line is not None and preset is not None:
        raise FleetError("--exec and --preset exclude each other: a preset builds the command line itself.")
    if exec_line is not None:
        file = replace(file, exec=exec_line, command=(), preset=None)
    if preset is not None:
        if preset not in PRESETS:
            raise FleetError(
                f"There is no preset {printable(preset)}.{nearest(preset, PRESETS)} There are {', '.join(PRESETS)}."
            )
        file = replace(file, preset=preset, exec="", command=())
    if (pool := changed.get("pool")) is not None:
        _require_id("--pool", str(pool))
    changes = {name: value for name, value in changed.items() if value is not None}
    return replace(file, **changes, slot=(*map(_slot_of, slots), *file.slot))


def fleet_of(file: FleetFile, *, base: Path, outer: Mapping[str, str]) -> Fleet:
    """Return the slots of a file; `base` is where its relative directories begin, `outer` the environment around.

    Raises:
        FleetError: with all mistakes: no slot, a slot twice, no command or two, a program that is not there.
    """
    problems: list[str] = []
    inherited = {name: value for name, value in outer.items() if not name.startswith(_OWN_VARIABLES)}
    found = [slot for group in file.slot for slot in _slots_of(file, group, base.absolute(), inherited, problems)]
    if not file.slot:
        problems.append("There is no slot: name one with --slot ID=MODEL, or with [[slot]] in a file.")
    twice = [key for key, count in Counter((one.spec.pool, one.spec.slot_id) for one in found).items() if count > 1]
    problems.extend(f"slot {slot_id} of pool {pool} is there twice: ids are unique." for pool, slot_id in twice)
    if problems:
        raise FleetError("\n".join(dict.fromkeys(problems)))
    return Fleet(slots=tuple(found), logs_keep=file.logs_keep, log_bytes_max=file.log_bytes_max)


def check_models(fleet: Fleet, refusals: Iterable[str | None]) -> None:
    """Refuse a fleet with a model that is not in the catalogue; `refusals` has the sentence of each slot.

    Raises:
        FleetError: with the nearest known name of each.
    """
    found = [
        f"slot {slot.spec.slot_id}: {why}" for slot, why in zip(fleet.slots, refusals, strict=True) if why is not None
    ]
    if found:
        raise FleetError("\n".join(found))


def _slot_of(text: str) -> SlotGroup:
    found = _SLOT.fullmatch(text)
    if found is None:
        raise FleetError(f"--slot {printable(text)} is not ID=MODEL or ID=MODEL@ACCOUNT, such as h-1=haiku.")
    for name in ("id", "account"):
        if found[name] is not None:
            _require_id(f"--slot {printable(text)}: its {name}", found[name])
    return SlotGroup(id=found["id"], model=found["model"], account=found["account"])


def _require_id(what: str, text: str) -> None:
    if re.match(ID_PATTERN, text) is None:
        raise FleetError(f"{what} has 1 to 128 letters, digits, `.`, `_`, `:` and `-`, and {printable(text)} has not.")


def _slots_of(
    file: FleetFile, group: SlotGroup, base: Path, inherited: Mapping[str, str], problems: list[str]
) -> Iterator[FleetSlot]:
    where = f"slot {group.id}"
    runs: Runs = group if group.named else file
    if runs.named != 1:
        problems.append(
            f"{where}: of exec, command and preset one can be there, and {runs.named} are."
            if runs.named
            else f"{where}: it has nothing to run: give exec, command or preset, or use --exec or --preset."
        )
        return
    directory = base / Path(group.directory or file.directory).expanduser()
    environment = {**inherited, **file.environment, **group.environment}
    arguments = group.arguments or file.arguments
    if runs.preset is None and (group.arguments or runs.arguments):
        problems.append(f"{where}: arguments are for a preset; put those of exec and command there.")
    preset = PRESETS[runs.preset] if runs.preset is not None else None
    if preset is not None:
        words = preset.command(file.models.get(group.model, group.model), arguments)
    else:
        words = (SHELL, "-c", runs.exec) if runs.exec else runs.command
    if not directory.is_dir():
        problems.append(f"{where}: the directory {printable(directory)} is not there.")
    elif not _is_program(words[0], directory, environment.get("PATH", os.defpath)):
        problems.append(f"{where}: the program {printable(words[0])} is not there, or cannot be run.")
    numbers = [""] if group.concurrency is None else [f"-{number + 1}" for number in range(group.concurrency)]
    if re.match(ID_PATTERN, group.id + numbers[-1]) is None:
        problems.append(f"{where}: its id is too long for the number that `concurrency` puts behind it.")
    for number in numbers:
        yield FleetSlot(
            spec=SlotSpec(
                slot_id=group.id + number,
                pool=group.pool or file.pool,
                model=group.model,
                account=group.account,
                ttl_s=group.ttl_s or file.ttl_s,
            ),
            grace_s=file.grace_s if group.grace_s is None else group.grace_s,
            command=words,
            preset=preset,
            directory=directory,
            environment=environment,
        )


def _is_program(word: str, directory: Path, path: str) -> bool:
    """Whether a word names a program, as a process in that directory would look it up."""
    found = str(directory / word) if os.sep in word else word
    return shutil.which(found, path=path) is not None
