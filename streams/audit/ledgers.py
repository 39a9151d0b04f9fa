"""Tenants' money as the journal's movements add up: does every ledger row say the same? JSON only.

Amounts are micro-dollars. A journal that was cut does not tell how a ledger began: its first row is believed then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

_CREDITED: Final = "credited_uusd"
_AVAILABLE: Final = "available_uusd"
_RESERVED: Final = "reserved_uusd"
_CONSUMED: Final = "consumed_uusd"

#: Pool and tenant.
Account = tuple[str, str]


class Ledgers:
    """The ledgers of one partition."""

    def __init__(self, *, whole: bool) -> None:
        """`whole`: the journal begins at step 0, so that every ledger begins with nothing."""
        self._whole = whole
        self._ledgers: dict[Account, dict[str, int]] = {}
        #: What is held back, by the decision that reserved it.
        self._reserved: dict[str, int] = {}
        #: Decisions whose reservation was released, and whose work may still be settled, late.
        self._released: set[str] = set()

    def add(self, step: Mapping[str, Any]) -> Iterator[str]:
        """Add the movements of a step and compare them with its rows; one sentence for each contradiction."""
        unsure: set[Account] = set()
        for movement in step.get("money", ()):
            account = (movement["pool"], movement["tenant_id"])
            if account not in self._ledgers and not self._whole:
                unsure.add(account)
            ledger = self._ledgers.setdefault(account, dict.fromkeys((_CREDITED, _AVAILABLE, _RESERVED, _CONSUMED), 0))
            problem = self._move(ledger, movement)
            if problem is not None:
                if self._whole:
                    yield f"{_of(account)}: {problem}"
                unsure.add(account)
        for row in step.get("ledgers", ()):
            account = (row["pool"], row["tenant_id"])
            found = {name: row[name] for name in (_CREDITED, _AVAILABLE, _RESERVED, _CONSUMED)}
            if found[_AVAILABLE] + found[_RESERVED] + found[_CONSUMED] != found[_CREDITED]:
                yield f"{_of(account)}: available + reserved + consumed is not credited: {_said(found)}"
            known = self._ledgers.get(account)
            if known is None and self._whole:
                yield f"{_of(account)}: a ledger without a movement: {_said(found)}"
            elif known is not None and account not in unsure and known != found:
                yield f"{_of(account)}: the movements come to {_said(known)}, the ledger says {_said(found)}"
            self._ledgers[account] = found

    def _move(self, ledger: dict[str, int], movement: Mapping[str, Any]) -> str | None:
        """Put a movement into the ledger; a sentence where it has no reservation to close."""
        amount, decision = movement["amount_uusd"], str(movement.get("decision_id"))
        match movement["kind"]:
            case "credit":
                ledger[_CREDITED] += amount
                ledger[_AVAILABLE] += amount
            case "reserve":
                self._reserved[decision] = amount
                ledger[_AVAILABLE] -= amount
                ledger[_RESERVED] += amount
            case "settle" if decision in self._released:
                self._released.remove(decision)
                ledger[_AVAILABLE] -= amount
                ledger[_CONSUMED] += amount
            case "settle" | "release" as kind:
                if decision not in self._reserved:
                    return f"{kind} of decision {decision}, which reserved nothing"
                reserved = self._reserved.pop(decision)
                spent = amount if kind == "settle" else 0
                ledger[_AVAILABLE] += reserved - spent
                ledger[_RESERVED] -= reserved
                ledger[_CONSUMED] += spent
                if kind == "release":
                    self._released.add(decision)
                    if amount != reserved:
                        return f"release of {amount} for decision {decision}, which reserved {reserved}"
            case other:
                return f"unknown movement {other}"
        return None


def _of(account: Account) -> str:
    return f"tenant {account[1]} in pool {account[0]}"


def _said(ledger: Mapping[str, int]) -> str:
    return ", ".join(f"{name.removesuffix('_uusd')} {amount}" for name, amount in ledger.items()) + " micro-dollars"
