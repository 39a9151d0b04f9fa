"""Terminal output of `slotwise explain`, made from the plain values of `views/explain.py`.

Texts of producers pass `printable`, so that no title acts on the terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.refusals import clip
from streams.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.views.find import Found
    from streams.views.why_not import WhyNot

#: Characters of a title in a list.
TITLE_CHARS_MAX: Final = 60
_LOST: Final = "No end of the work was reported: its lease ran out, or its slot was started again or retired."
_STYLES: Final = {"routed": "green", "waiting": "yellow"}


def render(history: Sequence[Mapping[str, Any]]) -> Table:
    """Render a task's decisions: a block each, its reason sentence first, then every model's verdict."""
    table, title = Table.grid(padding=(0, 0, 1, 0)), None
    for one in history:
        block = Table.grid()
        block.add_row(_heading(one))
        # A database of an older version has no titles.
        if (one_title := one.get("title")) not in (None, title):
            title = one_title
            block.add_row(Text(f"  {printable(title)}", style="italic"))
        block.add_row(Text(f"  {printable(one['reason'])}"))
        for facts in filter(None, (_asked(one), _facts(one), _cost(one))):
            block.add_row(Text(f"  {facts}", style="dim"))
        block.add_row(_verdicts(one["alternatives"]))
        if one["work"] is not None:
            block.add_row(Text(f"  {_work(one['work'])}"))
        if one["money"]:
            block.add_row(Text(f"  {_money(one['money'])}"))
        if one["is_lost"]:
            block.add_row(Text(f"  {_LOST}", style="yellow"))
        for order in one["orders"]:
            block.add_row(Text(f"  {_order(order)}", style="yellow"))
        for again in one["sent_again"]:
            block.add_row(Text(f"  {_sent_again(one['task_id'], again)}", style="yellow"))
        table.add_row(block)
    return table


def render_found(found: Found) -> RenderableType:
    """Render the tasks that were found by words of their titles: when, id, title, model and reason sentence."""
    table = Table("decided", "task", "title", "model", "why", box=None, padding=(0, 2), header_style="dim")
    for one in found.tasks:
        place = printable(one["chosen_model"] or one["outcome"])
        ids = one["task_id"] if one["pool"] == "main" else f"{one['task_id']} in {one['pool']}"
        table.add_row(
            one["decided_at"],
            Text(printable(ids)),
            Text(printable(clip(one["title"], TITLE_CHARS_MAX))),
            Text(place, style=_STYLES.get(one["outcome"], "red")),
            Text(printable(one["reason"])),
        )
    more = found.total - len(found.tasks)
    return Group(table, Text(f"{more} more: see them with --limit, or look for another word.")) if more else table


def found_nothing(found: Found, searched: str) -> str:
    """Say what was searched, and whether there were titles to be found."""
    span = "of the whole audit" if found.since is None else f"since {found.since}"
    if not found.searched:
        return f"There are no {searched} {span}."
    if not found.titled:
        return (
            f"None of the {searched} {span} has a title: the sink leaves titles out (SLOTWISE_AUDIT_TITLES), the tasks "
            "have none, or an older sink wrote them."
        )
    words = ", ".join(found.words.split())
    return f"No title has words that begin with {words}: searched were the {searched} {span}."


def render_why_not(decision: Mapping[str, Any], answer: WhyNot) -> Text:
    """Render the answer of `explain_why_not`."""
    text = Text(f"{decision['decided_at']}  ", style="bold")
    text.append(f"{printable(answer.model)}: {printable(answer.gate)}\n", style="bold")
    text.append(f"  {printable(answer.says)}\n")
    if answer.flip:
        text.append("  What would change it: ", style="green")
        text.append(f"{printable(answer.flip)}\n")
    for more in answer.then:
        text.append(f"  That alone would not do: {printable(more)}\n")
    for note in answer.notes:
        text.append(f"  {printable(note)}\n", style="dim")
    text.rstrip()
    return text


def _heading(one: Mapping[str, Any]) -> Text:
    heading = Text(f"{one['decided_at']}  ", style="bold")
    heading.append(printable(one["outcome"]), style=f"bold {_STYLES.get(one['outcome'], 'red')}")
    if one["outcome"] == "routed":
        heading.append(f" to {printable(one['chosen_slot_id'])} ({printable(one['chosen_model'])}, tier {one['tier']})")
    else:
        heading.append(f" ({printable(one['reason_code'])})")
    heading.append(f"  {printable(one['task_id'])} in {printable(one['pool'])}, attempt {one['attempt']}")
    if one["mode"] != "live":
        heading.append(f"  [{one['mode']}: {printable(one['journal'])}]", style="magenta")
    return heading


def _asked(one: Mapping[str, Any]) -> str:
    asked = one["asked"]
    if not asked:
        return ""
    bars = ", ".join(f"{dimension}>={bar}" for dimension, bar in sorted(asked.get("requires", {}).items()))
    others = [
        f"{name} {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in asked.items()
        if name not in ("requires", "refused")
    ]
    return "asked for " + printable("; ".join(filter(None, (bars, *others))))


def _facts(one: Mapping[str, Any]) -> str:
    facts = [
        f"{name} {printable(one[key])}"
        for name, key in (
            ("priority", "priority"),
            ("class", "complexity"),
            ("layer", "layer"),
            ("lane", "lane"),
            ("tenant", "tenant_id"),
            ("strategy", "strategy"),
            ("objective", "objective"),
        )
        if one[key] is not None
    ]
    if one["ev"] is not None:
        place = "" if one["ev_percentile"] is None else f", above {one['ev_percentile']:.0%} of the last hour"
        facts.append(f"EV {one['ev']:g}{place}")
    facts += [word for word in ("lifted", "fallback") if one[word]]
    facts += map(printable, one["flags"])
    return "; ".join(facts)


def _cost(one: Mapping[str, Any]) -> str:
    if one["estimated_cost_usd"] is None:
        return ""
    priced = f", by prices of {one['priced_at']}" if one["priced_at"] is not None else ""
    parts = [f"about ${one['estimated_cost_usd']:.4f}{priced}"]
    parts += [
        f"${abs(one[key]):.4f} {'less' if one[key] >= 0 else 'more'} than {what}"
        for key, what in (
            ("saved_vs_premium_usd", "premium"),
            ("saved_vs_next_free_usd", "the slot that had been free longest"),
        )
        if one[key] is not None
    ]
    return "; ".join(parts)


def _money(movements: Sequence[Mapping[str, Any]]) -> str:
    return (
        "Budget: "
        + ", ".join(f"{printable(one['kind'])} ${one['amount_usd']:.4f} at {one['at']}" for one in movements)
        + "."
    )


def _sent_again(task_id: str, again: Mapping[str, Any]) -> str:
    """Say why nothing came of a task that was sent again, and what to do."""
    ended = printable(again["ended"])
    advice = f"`slotwise retry {printable(task_id)}` runs it again."
    why = f"Sent again at {again['at']} and ignored as a duplicate: it had ended at {again['ended_at']} ({ended})."
    return f"{why} {advice}"


def _order(order: Mapping[str, Any]) -> str:
    """Say who ordered what about the task, and what became of it."""
    by, at = printable(order["by"]), order["at"]
    if order["kind"] == "task.retried":
        return f"{by} ordered at {at} that it is run again."
    ran = f" while it ran: {printable(order['asked'])} was asked to stop" if order["asked"] is not None else ""
    return f"{by} cancelled it at {at}{ran}."


def _verdicts(alternatives: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("model", "verdict", "score", "which means", box=None, padding=(0, 2), header_style="dim")
    for one in alternatives:
        score = one.get("score")
        table.add_row(
            Text(printable(one["model"])),
            Text(printable(one.get("gate", "?"))),
            f"{score:g}" if isinstance(score, int | float) else "",
            Text(f"{printable(one['model'])} {one['means']}" if one["means"] else ""),
            style="bold" if one.get("gate") == "chosen" else "",
        )
    return table


def _work(work: Mapping[str, Any]) -> str:
    parts = [f"The work ended at {work['ended_at']}: {printable(work['status'])}"]
    cost = work["actual_cost_usd"] if work["actual_cost_usd"] is not None else work["cost_usd"]
    parts += [f"${cost:.4f}"] if cost is not None else []
    parts += [f"{work['latency_s']:g} s"] if work["latency_s"] is not None else []
    parts += [f"quality {work['quality']:g}"] if work["quality"] is not None else []
    parts += [{True: "accepted", False: "not accepted"}[work["accepted"]]] if work["accepted"] is not None else []
    parts += [printable(work[key]) for key in ("fit", "error_class") if work[key] is not None]
    return ", ".join(parts) + "."
