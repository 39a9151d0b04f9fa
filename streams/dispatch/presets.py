"""Command lines of common agent programs, and what their output says of tokens, cost and limits.

A preset only builds a command line and reads what is printed: the program, its login and its rights are yours. The
prompt goes to standard input, so no text of a task can be taken for an option. The formats, by their sources:

- `claude -p --output-format json` prints one object: `is_error`, `total_cost_usd` and `usage` with `input_tokens`,
  `cache_creation_input_tokens`, `cache_read_input_tokens` (beside each other) and `output_tokens`
  (https://docs.claude.com/en/docs/claude-code/sdk/sdk-headless).
- `codex exec --json -` prints events as lines; `turn.completed` has `usage` with `input_tokens`, of them
  `cached_input_tokens`, and `output_tokens`; `turn.failed` and `error` have a message
  (https://github.com/openai/codex, codex-rs/exec/src/exec_events.rs).
- `gemini --output-format json`, headless because no terminal is there, prints one object: `stats.models` has `tokens`
  by model, with `prompt`, of them `cached`, `candidates` and beside them `thoughts`; `error` has a failure's `message`
  (https://github.com/google-gemini/gemini-cli, docs/cli/headless.md, packages/core/src/telemetry/uiTelemetry.ts).
- `ollama run MODEL --verbose` prints the answer, and on standard error `prompt eval count:` and `eval count:`
  (https://github.com/ollama/ollama, api/types.go, Metrics.Summary).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from schemas.vocabulary import from_millis
from streams.dispatch.result import Result

PresetName = Literal["claude", "codex", "gemini", "ollama"]

#: What vendors print when they take no work, by our word for it. It is looked for in errors only, not in answers.
_LIMITS: Final = (
    (
        "quota",
        re.compile(
            r"usage limit|hit your .{0,20}limit|limit reached|insufficient_quota|exceeded your current quota",
            re.IGNORECASE,
        ),
    ),
    ("rate_limited", re.compile(r"rate.?limit|too many requests|RESOURCE_EXHAUSTED|\b429\b", re.IGNORECASE)),
    ("overloaded", re.compile(r"overloaded|\b529\b|\b503\b|service unavailable", re.IGNORECASE)),
)
#: `claude` names the end of its limit in seconds since the epoch.
_LIMIT_ENDS: Final = re.compile(r"limit reached\|(\d{10})\b")
#: Of standard error, the end that can hold the reason of a failure.
ERROR_CHARS_MAX: Final = 2_000
_OLLAMA_COUNT: Final = re.compile(r"^(prompt eval|eval) count: +(\d+)", re.MULTILINE)


class Output(Struct, frozen=True):
    """The last of what a program printed; each part is cut at its front when it is long."""

    stdout: str
    stderr: str


class Reading(Struct, frozen=True):
    """What a program's output says."""

    result: Result
    #: The words of an error.
    error: str = ""


class Preset(Struct, frozen=True):
    """One program: its command line without the model, and the reader of its output."""

    words: tuple[str, ...]
    model_option: tuple[str, ...]
    #: Words behind the model and the arguments.
    last: tuple[str, ...]
    read: Callable[[Output], Reading]

    def command(self, model: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """Return program and arguments, for a model as the program calls it."""
        return (*self.words, *self.model_option, model, *arguments, *self.last)

    def result(self, output: Output, exit_code: int) -> Result:
        """Return what the output says of the work; nothing where it is not of the format."""
        reading = self.read(output)
        if exit_code == 0 and reading.result.status != "failure":
            return reading.result
        text = f"{reading.error}\n{output.stderr[-ERROR_CHARS_MAX:]}"
        found = next((word for word, pattern in _LIMITS if pattern.search(text)), None)
        ends = _LIMIT_ENDS.search(text)
        return msgspec.structs.replace(
            reading.result,
            status="failure",
            error_class=found,
            retry_at=from_millis(int(ends[1]) * 1000) if ends is not None else None,
        )


def _claude(output: Output) -> Reading:
    value = _object(output.stdout)
    usage = _table(value.get("usage"))
    cached = _count(usage, "cache_read_input_tokens")
    fresh = [_count(usage, "input_tokens"), _count(usage, "cache_creation_input_tokens")]
    cost = value.get("total_cost_usd")
    failed = value.get("is_error") is True
    result = Result(
        status="failure" if failed else None,
        input_tokens=_sum(*fresh, cached),
        cached_input_tokens=cached,
        output_tokens=_count(usage, "output_tokens"),
        cost_usd=float(cost) if isinstance(cost, int | float) and cost >= 0 else None,
    )
    return Reading(result, str(value.get("result", "")) if failed else "")


def _codex(output: Output) -> Reading:
    usage: Mapping[str, Any] = {}
    error: str | None = None
    for line in output.stdout.splitlines():
        event = _object(line)
        match event.get("type"):
            case "turn.completed":
                usage, error = _table(event.get("usage")), None
            case "turn.failed" | "error":
                error = str(event)
    result = Result(
        status="failure" if error is not None else None,
        input_tokens=_count(usage, "input_tokens"),
        cached_input_tokens=_count(usage, "cached_input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
    )
    return Reading(result, error or "")


def _gemini(output: Output) -> Reading:
    value = _object(output.stdout)
    models = _table(_table(value.get("stats")).get("models"))
    tokens = [_table(_table(one).get("tokens")) for one in models.values()]
    thoughts = _sum(*(_count(one, "thoughts") for one in tokens))
    result = Result(
        status="failure" if value.get("error") else None,
        input_tokens=_sum(*(_count(one, "prompt") for one in tokens)),
        cached_input_tokens=_sum(*(_count(one, "cached") for one in tokens)),
        output_tokens=_sum(*(_count(one, "candidates") for one in tokens), thoughts),
        reasoning_tokens=thoughts,
    )
    return Reading(result, str(value.get("error", "")))


def _ollama(output: Output) -> Reading:
    counts = {what: int(number) for what, number in _OLLAMA_COUNT.findall(output.stderr)}
    return Reading(Result(input_tokens=counts.get("prompt eval"), output_tokens=counts.get("eval")))


#: The model follows its option; the prompt is on standard input.
PRESETS: Final[dict[str, Preset]] = {
    "claude": Preset(("claude", "-p", "--output-format", "json"), ("--model",), (), _claude),
    "codex": Preset(("codex", "exec", "--json"), ("--model",), ("-",), _codex),
    "gemini": Preset(("gemini", "--output-format", "json"), ("--model",), (), _gemini),
    "ollama": Preset(("ollama", "run", "--verbose"), (), (), _ollama),
}


def _object(text: str) -> dict[str, Any]:
    """Return a JSON object; an empty one for anything else. Words before it, such as a warning, are passed over."""
    start = text.find("{")
    try:
        value = msgspec.json.decode(text[start:]) if start >= 0 else None
    except (msgspec.DecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(table: Mapping[str, Any], name: str) -> int | None:
    value = table.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
