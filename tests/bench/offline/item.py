"""One question that a weak and a strong model both answered, with the marks that others gave both answers."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from tests.bench.offline.kind import CHARS_PER_TOKEN, Kind, kind_of
from tests.bench.offline.source import Source


class Price(Struct, frozen=True):
    """US dollars per million tokens."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float

    def usd(self, input_tokens: float, output_tokens: float) -> float:
        """What that many tokens cost."""
        return (input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok) / 1e6


class Item(Struct, frozen=True):
    """A question, what may be known of it beforehand, and what each answer was worth and cost."""

    item_id: str
    #: What sort of question its source says it is; known before it is answered.
    sort: str
    kind: Kind
    prompt_chars: int
    #: 0..1; only the oracle and the measurement read it.
    weak: float
    strong: float
    weak_usd: float
    strong_usd: float

    @property
    def gain(self) -> float:
        """What the strong model would have made better."""
        return self.strong - self.weak


class PairData(Struct, frozen=True):
    """One set of questions for one pair of models."""

    name: str
    weak: str
    strong: str
    items: tuple[Item, ...]


#: List prices: litellm 1.109.1 for GPT-4, genai-prices 0.2.3 (groq) for Mixtral.
GPT_4: Final = Price(10.0, 30.0)
MIXTRAL: Final = Price(0.24, 0.24)
#: As the source of llmrouter9 states them.
SMALL: Final = Price(0.1, 0.1)
LARGE: Final = Price(0.9, 0.9)
#: The cheapest of the nine, and the best of the dearest three: chosen by these very rows, for all rules alike.
NINE: Final = ("gemma-2-9b-it", "llama-3.1-nemotron-51b-instruct")


def pair_data(source: Source) -> list[PairData]:
    """All sets of the source."""
    return [mmlu(source), gsm8k(source), mtbench(source), llmrouter9(source), routerarena2(source)]


def mmlu(source: Source) -> PairData:
    """Multiple choice in 57 subjects; the length of the answers is not in the data and taken from the kind."""
    items = [
        _priced(row["id"], row["subject"], row["prompt_chars"], float(row["weak_ok"]), float(row["strong_ok"]))
        for row in source.rows("quality/routellm_mmlu")
    ]
    return PairData("mmlu", "Mixtral-8x7B", "GPT-4", tuple(items))


def gsm8k(source: Source) -> PairData:
    """Sums in words; costs are of the real answers' lengths."""
    items = []
    for row in source.rows("quality/routellm_gsm8k"):
        tokens_in = int(row["prompt_chars"]) / CHARS_PER_TOKEN
        items.append(
            Item(
                row["id"], "gsm8k", kind_of("gsm8k"), int(row["prompt_chars"]),
                float(row["weak_ok"]), float(row["strong_ok"]),
                MIXTRAL.usd(tokens_in, int(row["weak_resp_chars"]) / CHARS_PER_TOKEN),
                GPT_4.usd(tokens_in, int(row["strong_resp_chars"]) / CHARS_PER_TOKEN),
            )
        )  # fmt: skip
    return PairData("gsm8k", "Mixtral-8x7B", "GPT-4", tuple(items))


def mtbench(source: Source) -> PairData:
    """Conversations of two turns, marked 1 to 10 by a judge; a tenth of the mean mark is the quality."""
    items = []
    for row in source.rows("quality/routellm_mtbench"):
        marks = {
            who: (float(row[f"{who}_score_t1"]) + float(row[f"{who}_score_t2"])) / 20 for who in ("weak", "strong")
        }
        chars = row.get("prompt_chars") or str(len(row["turn1"]) + len(row["turn2"]))
        items.append(_priced(row["id"], row["category"], chars, marks["weak"], marks["strong"]))
    return PairData("mtbench", "Mixtral-8x7B", "GPT-4", tuple(items))


def llmrouter9(source: Source) -> PairData:
    """Fourteen tasks; of the nine models, the cheapest and the best of the dearest."""
    weak, strong = NINE
    items = [
        _priced(row["id"], row["task"], row["prompt_chars"], float(row[weak]), float(row[strong]), SMALL, LARGE)
        for row in source.rows("quality/llmrouter9")
    ]
    return PairData("llmrouter9", weak, strong, tuple(items))


def routerarena2(source: Source) -> PairData:
    """Seventy sets of questions, with what each answer really cost; the dearer model counts as the strong one."""
    items = [
        Item(
            row["id"], row["dataset"], kind_of(row["dataset"]), int(row["prompt_chars"]),
            float(row["gemini20flash_score"]), float(row["haiku3_score"]),
            float(row["gemini20flash_cost_usd"]), float(row["haiku3_cost_usd"]),
        )
        for row in source.rows("quality/routerarena2")
    ]  # fmt: skip
    return PairData("routerarena2", "gemini-2.0-flash", "claude-3-haiku", tuple(items))


def _priced(
    item_id: str, sort: str, chars: str, weak: float, strong: float, cheap: Price = MIXTRAL, dear: Price = GPT_4
) -> Item:
    """An item whose answers' lengths are not known: both cost what its kind of answer takes."""
    kind = kind_of(sort)
    tokens = int(chars) / CHARS_PER_TOKEN, kind.output_tokens
    return Item(item_id, sort, kind, int(chars), weak, strong, cheap.usd(*tokens), dear.usd(*tokens))
