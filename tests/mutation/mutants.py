"""The mutants: mutmut writes all of a module into its file, behind trampolines, so that a process picks one by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from random import Random
from typing import Final

from msgspec import Struct
from mutmut.mutation.file_mutation import mutate_file_contents

CORE: Final = Path("streams/core")
#: Its floors with rules, look-up and steps; what the rows do is held by the properties.
FLOORS: Final = ("policy", "index", "step")
_HEADS: Final = ("---", "+++", "@@ ")


class Mutant(Struct, frozen=True, kw_only=True):
    """One small mistake."""

    #: As people name it: `policy/rules/quota`.
    module: str
    #: As the trampoline names it: `streams.core.policy.rules.quota.xǁQuotaǁcheck__mutmut_3`.
    name: str
    #: What the file says, and what the mutant says instead, as lines of a diff.
    diff: tuple[str, ...]

    @property
    def function(self) -> str:
        """What was changed, as the trampoline names it when it notes who calls it."""
        return self.name.partition("__mutmut_")[0]


class Verdict(Struct, frozen=True, kw_only=True):
    """What became of a mutant."""

    mutant: Mutant
    #: `killed`, `timeout` (it did not end, which a build would notice), `survived`, or `unreached` by any test.
    what: str
    #: The test that failed.
    test: str | None = None


def plant(only: tuple[str, ...]) -> Iterator[Mutant]:
    """Write the mutants of the chosen modules into the files below the present directory, and name them."""
    for path in sorted(path for floor in FLOORS for path in (CORE / floor).rglob("*.py")):
        module = str(path.relative_to(CORE).with_suffix(""))
        if not any(fnmatch(module, pattern) for pattern in only):
            continue
        planted = mutate_file_contents(str(path), path.read_text())
        path.write_text(planted.code)
        lines, spans = planted.code.splitlines(), planted.line_span_by_function_name
        for name in planted.mutant_names:
            before, after = spans[name.partition("__mutmut_")[0] + "__mutmut_orig"], spans[name]
            changed = difflib.unified_diff(
                lines[before.start - 1 : before.end], lines[after.start - 1 : after.end], lineterm="", n=0
            )
            diff = tuple(line for line in changed if line[:3] not in _HEADS and "__mutmut_" not in line)
            if not _only_case(diff):
                yield Mutant(module=module, name=f"{'.'.join(path.with_suffix('').parts)}.{name}", diff=diff)


def _only_case(diff: tuple[str, ...]) -> bool:
    """Whether only the case of a text changed: a text that no test reads survives with XX around it as well."""
    before = [line[1:].lower() for line in diff if line[0] == "-"]
    return before == [line[1:].lower() for line in diff if line[0] == "+"]


def sample(mutants: list[Mutant], share: float, seed: int) -> list[Mutant]:
    """So many of each module's mutants, the same ones for the same seed, in their own order."""
    by_module: dict[str, list[Mutant]] = {}
    for one in mutants:
        by_module.setdefault(one.module, []).append(one)
    chance = Random(seed)
    drawn = {
        one.name for some in by_module.values() for one in chance.sample(some, min(len(some), round(len(some) * share)))
    }
    return [one for one in mutants if one.name in drawn]


def again(mutants: list[Mutant], before: list[Mutant]) -> list[Mutant]:
    """Those that make a mistake which one made before, whatever number it has by now."""
    known = {(one.function, one.diff) for one in before}
    return [one for one in mutants if (one.function, one.diff) in known]
