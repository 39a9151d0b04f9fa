r"""One plug-in and the one thread that calls it, one call at a time; it may raise or never return.

    batch of tasks -> thread: call, call, call ... -> answers
                         \-> over the time limit: the caller goes on; a late answer is dropped

A call cannot be ended from another thread. So there is never a second one: while a call does not return, the plug-in is
not called again, and the daemon thread blocks neither the event loop nor the end of the process. A plug-in in C that
keeps the interpreter's lock stops the process like any other code in it; this module cannot prevent that.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from traceback import format_exception
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from schemas.events import TaskPending
from streams import metrics
from streams.core.policy.plugins import PluginPolicy
from streams.plugins.installed import PluginError, Role

_log = logging.getLogger(__name__)

#: Raised, gave an invalid answer, took too long, or was not called (paused, stuck, or the batch's time was used up).
Kind: TypeAlias = Literal["raised", "answer", "slow", "unasked"]
#: Calls the plug-in with a task and returns its checked answer; raises `InvalidAnswer`.
Call: TypeAlias = Callable[[Any, TaskPending], Any]
_DETAIL_CHARS_MAX: Final = 500
_TRACE_CHARS_MAX: Final = 4_000


class InvalidAnswer(Exception):
    """A plug-in gave an invalid answer; the message says which."""


class Failed(NamedTuple):
    """Reason of a missing answer. Text only: an exception's own methods are foreign code, and run in the thread."""

    kind: Kind
    detail: str
    trace: str = ""


class _Batch:
    """The tasks of one caller, and the answers so far, in order."""

    __slots__ = ("answers", "call", "closed", "deadline_s", "finish", "limits", "tasks")

    def __init__(
        self,
        tasks: Sequence[TaskPending],
        call: Call,
        limits: PluginPolicy,
        deadline_s: float,
        finish: Callable[[], None],
    ) -> None:
        self.tasks = tasks
        self.call = call
        self.limits = limits
        #: When the caller stops waiting.
        self.deadline_s = deadline_s
        self.finish = finish
        self.answers: list[Any] = []
        #: The caller has stopped waiting.
        self.closed = threading.Event()


class PluginRunner:
    """See the module: `ask` from the event loop; the rest happens in the thread."""

    def __init__(
        self, role: Role, name: str, load: Callable[[Role, str], Any], clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.role: Role = role
        self.name = name
        self._load = load
        self._clock_s = clock_s
        self._plugin: Any = None
        self._batches: SimpleQueue[_Batch | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        #: Guards all fields below, which both sides change.
        self._lock = threading.Lock()
        self._current: _Batch | None = None
        #: Start of the call that has not returned yet,
        self._since_s: float | None = None
        #: and when it was last counted as a failure: many may wait for one call.
        self._counted_s = 0.0
        self._failures = 0
        self._paused_until_s = float("-inf")
        self._reported = False

    def load(self) -> None:
        """Load the plug-in now instead of at its first task.

        Raises:
            PluginError: it cannot be loaded.
        """
        self._plugin = self._load(self.role, self.name)

    async def ask(self, tasks: Sequence[TaskPending], call: Call, limits: PluginPolicy, deadline_s: float) -> list[Any]:
        """Return its answer for each task, in order, or a `Failed`; not later than `deadline_s` by the clock."""
        loop, finished = asyncio.get_running_loop(), asyncio.Event()

        def finish() -> None:
            # The loop may be closed when a late call returns.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(finished.set)

        batch = _Batch(tasks, call, limits, deadline_s, finish)
        with self._lock:
            asked = not self._paused() and not self._stuck(limits)
        if asked:
            self._batches.put(batch)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name=f"{self.role} {self.name}", daemon=True)
                self._thread.start()
            try:
                while not finished.is_set() and (wait_s := self._patience_s(batch)) > 0:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(finished.wait(), wait_s)
            except asyncio.CancelledError:
                # The caller is gone: its tasks need no answer.
                batch.closed.set()
                raise
        answers = self._close(batch)
        for answer in answers:
            if type(answer) is Failed:
                metrics.PLUGIN_FAILURES.labels(self.role, self.name, answer.kind).inc()
        return answers

    def close(self) -> None:
        """End the thread, when its call has returned."""
        if self._thread is not None:
            self._batches.put(None)

    # On the side of the caller ---------------------------------------------------------------------------------

    def _patience_s(self, batch: _Batch) -> float:
        """Return how long to wait before the next check: until the call's limit or the batch's."""
        now_s = self._clock_s()
        since_s = self._since_s
        over_s = (now_s if since_s is None else since_s) + batch.limits.time_limit_s
        return min(batch.deadline_s, over_s) - now_s

    def _close(self, batch: _Batch) -> list[Any]:
        """Return the answers, and a `Failed` for each missing one."""
        with self._lock:
            batch.closed.set()
            answers = list(batch.answers)
            missing = len(batch.tasks) - len(answers)
            if not missing:
                return answers
            if self._stuck(batch.limits):
                now_s, limit_s = self._clock_s(), batch.limits.time_limit_s
                slow = Failed("slow", f"its call took longer than {limit_s:g} s and is not back")
                if now_s - self._counted_s >= limit_s:
                    self._counted_s = now_s
                    self._note(slow, batch.limits)
                if batch is self._current:
                    answers.append(slow)
                    missing -= 1
                rest = "its call for an earlier task is not back"
            elif self._paused():
                rest = "it is left alone after too many failures"
            else:
                rest = f"the batch's {batch.limits.batch_limit_s:g} s were used up"
            return answers + [Failed("unasked", rest)] * missing

    # In the thread --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            for task in batch.tasks:
                with self._lock:
                    now_s = self._clock_s()
                    if batch.closed.is_set() or now_s >= batch.deadline_s or self._paused():
                        break
                    self._current, self._since_s, self._counted_s = batch, now_s, now_s
                answer = self._call(batch, task)
                with self._lock:
                    took_s = self._clock_s() - self._since_s
                    self._current = self._since_s = None
                    if batch.closed.is_set():
                        # The caller has continued without it.
                        break
                    if took_s > batch.limits.time_limit_s:
                        answer = Failed(
                            "slow", f"it took {took_s:.3f} s, and {batch.limits.time_limit_s:g} s are allowed"
                        )
                    self._note(answer, batch.limits)
                    batch.answers.append(answer)
                metrics.PLUGIN_SECONDS.labels(self.role, self.name).observe(took_s)
            batch.finish()

    def _call(self, batch: _Batch, task: TaskPending) -> Any:
        try:
            if self._plugin is None:
                self._plugin = self._load(self.role, self.name)
            return batch.call(self._plugin, task)
        except InvalidAnswer as error:
            return Failed("answer", str(error)[:_DETAIL_CHARS_MAX])
        except PluginError as error:
            return Failed("raised", str(error))
        except BaseException as error:  # noqa: BLE001 - whatever a plug-in raises, leaving the process included
            return _raised(error)

    # The breaker, under the lock ------------------------------------------------------------------------------

    def _paused(self) -> bool:
        return self._clock_s() < self._paused_until_s

    def _stuck(self, limits: PluginPolicy) -> bool:
        return self._since_s is not None and self._clock_s() - self._since_s >= limits.time_limit_s

    def _note(self, answer: Any, limits: PluginPolicy) -> None:
        """Count failures in a row; from the limit on each failure begins a pause without calls."""
        if type(answer) is not Failed:
            if self._reported:
                _log.info("the %s %s answers again", self.role, self.name)
            self._failures, self._reported = 0, False
            return
        _log.debug("the %s %s failed (%s): %s", self.role, self.name, answer.kind, answer.detail)
        self._failures += 1
        if self._failures < limits.failures_max:
            return
        self._paused_until_s = self._clock_s() + limits.pause_s
        if not self._reported:
            self._reported = True
            _log.warning(
                "the %s %s failed %d times in a row, the last time because %s: tasks are decided without it, and it is "
                "asked again every %g s. Mend it (a call that never comes back needs a new start of the worker), allow "
                "it more with time_limit_s in [plugins] of the policy, or take it out there.%s",
                self.role, self.name, self._failures, answer.detail, limits.pause_s,
                f"\n{answer.trace}" if answer.trace else "",
            )  # fmt: skip


def _raised(error: BaseException) -> Failed:
    try:
        detail, trace = f"it raised {error!r}", "".join(format_exception(error))
    except BaseException:  # noqa: BLE001 - an exception that cannot be formatted
        detail, trace = f"it raised {type(error).__name__}", ""
    return Failed("raised", detail[:_DETAIL_CHARS_MAX], trace[-_TRACE_CHARS_MAX:])
