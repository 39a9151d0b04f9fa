"""The command behind `make mutate`: try the tests of the policy on mutants of it, and list those that no test noticed.

It writes mutants into the files below the present directory, so it refuses any place that is not a throw-away copy.
Ends with 0 whatever survives: a survivor is a question to a person, and docs/mutation.md holds the answers.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import IO, Final

import msgspec
import pytest

from tests.mutation.chosen import TESTS
from tests.mutation.mutants import Mutant, Verdict, again, plant, sample

#: Quick and quiet: nothing of a failure is shown, and how long a test may take is the trial's concern.
QUIET: Final = ("-qq", "-s", "--tb=native", "--assert=plain", "-p", "no:cacheprovider", "-o", "timeout=0")
WORDS: Final = ("killed", "timeout", "survived", "unreached")
#: Questions to a person.
LEFT: Final = ("survived", "unreached")
#: So often it says how far it is.
EVERY: Final = 100
EXIT_OK: Final = 0
EXIT_MISTAKE: Final = 2


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make mutate", description="Try the tests of the policy on mutants of it.")
    parser.add_argument(
        "--only", default="*", metavar="policy/rules/*,step/money", help="these modules of streams/core"
    )
    parser.add_argument("--share", type=float, default=1.0, metavar="S", help="a random share of each module's mutants")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the share")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, metavar="N", help="mutants at a time")
    parser.add_argument(
        "--again", type=Path, metavar="FILE", help="of these the ones that survived before, by that mutants.jsonl"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="where mutants.jsonl and survivors.txt go"
    )
    options = parser.parse_args(arguments)
    if not 0 < options.share <= 1:
        parser.error("--share: above 0, at most 1")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Plant, try, tell."""
    options = read_options(arguments)
    if not Path.cwd().resolve().is_relative_to(Path(tempfile.gettempdir()).resolve()):
        sys.stderr.write("This overwrites streams/core with mutants: call it by make mutate, which makes a copy.\n")
        return EXIT_MISTAKE
    every = list(plant(tuple(options.only.split(","))))
    chosen = sample(every, options.share, options.seed)
    if options.again is not None:
        before = msgspec.json.Decoder(Verdict).decode_lines(options.again.read_bytes())
        chosen = again(chosen, [one.mutant for one in before if one.what in LEFT])
    if not chosen:
        sys.stderr.write(
            f"Nothing to change in {options.only}: name modules of streams/core, as in policy/rules/quota.\n"
        )
        return EXIT_MISTAKE
    options.out.mkdir(parents=True, exist_ok=True)
    from tests.mutation.trial import Trial  # noqa: PLC0415  # imports the policy: not before the mutants are planted

    with (options.out / "mutants.jsonl").open("wb") as out:
        trial = Trial(chosen, options.children, Teller(out, len(chosen)))
        code = pytest.main([*QUIET, *TESTS], plugins=[trial])
    if len(trial.verdicts) != len(chosen):
        return code or EXIT_MISTAKE
    left = [_survivor(one) for one in trial.verdicts if one.what in LEFT]
    (options.out / "survivors.txt").write_text("\n".join(left))
    sys.stdout.write(f"{table(every, trial.verdicts)}\n")
    return EXIT_OK


class Teller:
    """Keeps each verdict as it comes, and says how far it is."""

    def __init__(self, out: IO[bytes], count: int) -> None:
        """Write to a file that the caller closes."""
        self._out = out
        self._count = count
        self._told = Counter[str]()
        self._begin_s = time.monotonic()

    def __call__(self, verdict: Verdict) -> None:
        """Tell one."""
        self._out.write(msgspec.json.encode(verdict) + b"\n")
        self._told[verdict.what] += 1
        done = self._told.total()
        if done % EVERY == 0 or done == self._count:
            said = ", ".join(f"{self._told[word]} {word}" for word in WORDS)
            sys.stderr.write(f"{done} of {self._count} in {time.monotonic() - self._begin_s:.0f} s: {said}\n")
            self._out.flush()


def table(every: list[Mutant], verdicts: list[Verdict]) -> str:
    """How each module fared, in Markdown."""
    all_of = Counter(one.module for one in every)
    fared = Counter((one.mutant.module, one.what) for one in verdicts)
    tried = Counter(one.mutant.module for one in verdicts)
    rows = ["| module | mutants | tried | " + " | ".join(WORDS) + " |", "|---|" + "--:|" * (2 + len(WORDS))]
    for module, count in sorted(all_of.items()):
        rows.append(
            f"| {module} | {count} | {tried[module]} | " + " | ".join(str(fared[module, word]) for word in WORDS) + " |"
        )
    sums = (sum(count for (_, what), count in fared.items() if what == word) for word in WORDS)
    rows.append(f"| all | {len(every)} | {len(verdicts)} | " + " | ".join(map(str, sums)) + " |")
    return "\n".join(rows)


def _survivor(verdict: Verdict) -> str:
    return "\n".join((f"{verdict.mutant.name} {verdict.what}", *verdict.mutant.diff, ""))


if __name__ == "__main__":
    sys.exit(main())
