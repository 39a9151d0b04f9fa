"""The trial of each mutant: collected once, the tests that reach it run in a forked child until one of them fails.

Starting Python and collecting takes seconds, and a test of the policy milliseconds: so pytest starts once, and a fork
is a mutant's own process. What ran before in the parent cannot help or hurt it, because the parent runs no test.
"""

from __future__ import annotations

import functools
import gc
import os
import pickle
import resource
import signal
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
import yaml
from msgspec import Struct
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state

from tests.golden.history import HERE, files, read
from tests.mutation.mutants import Mutant, Verdict

#: A test of a mutant may take so many times what it takes otherwise, and so many seconds on top, of processor time.
TIMES: Final = 20
EXTRA_S: Final = 3.0
MEMORY_BYTES: Final = 4 << 30
_OURS: Final = ("streams.", "schemas.", "tests.")
_CACHES: Final[list[functools._lru_cache_wrapper[object]]] = []


class Reach(Struct, frozen=True, kw_only=True):
    """What a test costs, and which mutated functions it calls."""

    passes: bool
    cpu_s: float
    functions: frozenset[str]


class Trial:
    """A plug-in of pytest: in the place of running the tests, it runs them against each mutant."""

    def __init__(self, mutants: list[Mutant], children_max: int, tell: Callable[[Verdict], None]) -> None:
        """Try these mutants, so many at a time, and tell each verdict as it comes."""
        self.verdicts: list[Verdict] = []
        self._mutants = mutants
        self._children_max = children_max
        self._tell = tell
        #: By function: how often a test killed a mutant of it. Who killed one is the first to meet the next.
        self._kills: dict[str, Counter[int]] = {}
        #: By process: its mutant, and where it writes which test failed.
        self._running: dict[int, tuple[Mutant, int]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Note what each test reaches, then try the mutants."""
        if session.testsfailed:
            raise session.Interrupted("not all tests could be collected")
        _remember_third_parties()
        _find_caches()
        for path in files():
            read(path)
        read_by, reach = _reach(session)
        gc.freeze()
        reaching: dict[str, list[int]] = {}
        for number, one in enumerate(reach):
            for function in one.functions:
                reaching.setdefault(function, []).append(number)
        for mutant in self._mutants:
            numbers = reaching.get(mutant.function)
            if numbers is None:
                self._end(Verdict(mutant=mutant, what="unreached"))
                continue
            while len(self._running) >= self._children_max:
                self._wait(session)
            kills = self._kills.setdefault(mutant.function, Counter())
            self._start(
                session,
                mutant,
                sorted(numbers, key=lambda n: (-kills[n], reach[n].cpu_s)),
                reach,
                fresh=mutant.function in read_by,
            )
        while self._running:
            self._wait(session)
        return True

    def _start(
        self, session: pytest.Session, mutant: Mutant, numbers: list[int], reach: list[Reach], *, fresh: bool
    ) -> None:
        reader, writer = os.pipe()
        process = os.fork()
        if process:
            os.close(writer)
            self._running[process] = mutant, reader
            return
        # From here on in the child, which never returns: what it would do further up is the parent's business.
        failed: int | None = None
        try:
            _go_silent()
            set_mutant_under_test(mutant.name)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            if fresh:
                _forget()
            for number in numbers:
                failed = number
                signal.setitimer(signal.ITIMER_PROF, reach[number].cpu_s * TIMES + EXTRA_S)
                if not _passes(session, session.items[number]):
                    break
            else:
                failed = None
        finally:
            if failed is not None:
                os.write(writer, str(failed).encode())
            os._exit(failed is not None)

    def _wait(self, session: pytest.Session) -> None:
        process, status = os.wait()
        mutant, reader = self._running.pop(process)
        said = os.read(reader, 16)
        os.close(reader)
        if os.WIFSIGNALED(status):
            self._end(Verdict(mutant=mutant, what="timeout"))
        elif os.WEXITSTATUS(status) == 0:
            self._end(Verdict(mutant=mutant, what="survived"))
        else:
            self._kills[mutant.function][int(said)] += 1
            self._end(Verdict(mutant=mutant, what="killed", test=session.items[int(said)].nodeid))

    def _end(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        self._tell(verdict)


def _reach(session: pytest.Session) -> tuple[frozenset[str], list[Reach]]:
    """Which functions read the histories, and which each test calls: run once, unharmed, in a child of its own."""
    reader, writer = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.close(reader)
            _go_silent()
            set_mutant_under_test("stats")
            _forget()
            for path in files():
                read(path)
            read_by = frozenset(state()._stats)
            with os.fdopen(writer, "wb") as out:
                out.write(msgspec.json.encode((read_by, [_reach_of(session, item, read_by) for item in session.items])))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        raw = told.read()
    os.waitpid(process, 0)
    if not raw:
        raise session.Interrupted("the tests do not come to an end even where there is no mistake")
    read_by, rows = msgspec.json.decode(raw, type=tuple[frozenset[str], list[Reach]])
    failed = [item.nodeid for item, row in zip(session.items, rows, strict=True) if not row.passes]
    if failed:
        raise session.Interrupted(f"without any mistake in the code these fail: {', '.join(failed)}")
    return read_by, rows


def _reach_of(session: pytest.Session, item: pytest.Item, read_by: frozenset[str]) -> Reach:
    _forget(but=read)  # else only the first test would seem to call what fills a cache
    state()._stats.clear()
    begin_s = time.process_time()
    passes = _passes(session, item)
    cpu_s = time.process_time() - begin_s
    functions = frozenset(state()._stats)
    return Reach(passes=passes, cpu_s=cpu_s, functions=functions | read_by if _reads(item) else functions)


def _reads(item: pytest.Item) -> bool:
    return item.path.is_relative_to(HERE)


def _remember_third_parties() -> None:
    """What no mutant changes is computed once: two parsers and msgspec's look at our types took most of the time."""
    known: list[tuple[Any, str]] = [(tomllib, "loads"), (yaml, "safe_load")]
    for module, name in known:
        setattr(module, name, _remembering(getattr(module, name)))
    msgspec.inspect.type_info = functools.cache(msgspec.inspect.type_info)


def _remembering(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    known: dict[str, bytes] = {}

    def parse_once(text: str, /) -> Any:
        if text not in known:
            known[text] = pickle.dumps(parse(text))
        return pickle.loads(known[text])

    return parse_once


def _forget(but: object = None) -> None:
    """Empty the caches of our own code."""
    for one in _CACHES:
        if one is not but:
            one.cache_clear()


def _find_caches() -> None:
    _CACHES.extend(
        one
        for one in gc.get_objects()
        if isinstance(one, functools._lru_cache_wrapper) and one.__module__.startswith(_OURS)
    )


def _passes(session: pytest.Session, item: pytest.Item) -> bool:
    """Run one test; with no next one, everything that it set up is torn down."""
    before = session.testsfailed
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    return session.testsfailed == before


def _go_silent() -> None:
    """The output of a child's tests is dropped."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
