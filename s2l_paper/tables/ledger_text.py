"""The ledger of claims as a page to be read."""

import pandas as pd

from s2l_paper.tables.claims import CANNOT_TELL, KINDS, NOT_RUN, RULES, VERDICTS
from s2l_paper.tables.paper_claims import SENTENCE
from s2l_paper.tables.table1 import TO, markdown

WORDS = {
    "kinds": "of imaging: images taken in one way, such as one microscope and stain",
}
DETECTABLE = "smallest difference that these runs could have detected"


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each kind have each verdict."""
    counts = pd.crosstab(table.kind, table.verdict)
    counts = counts.reindex(index=list(KINDS), columns=list(VERDICTS), fill_value=0)
    return counts.rename_axis(index="kind", columns=None).reset_index()


def claims_markdown(table: pd.DataFrame, compared: pd.DataFrame) -> str:
    """The ledger to be read: how many of each verdict, every sentence, whatever else is decided,
    the differences that sentences rest on, and the rules. The rest is in `claims.csv`, with the
    runs that are missing by name.

    Args:
        table: what `ledger` gives.
        compared: what `differences` gives.
    """
    sentences = table[table.kind == SENTENCE]
    decided = table[(table.kind != SENTENCE) & ~table.verdict.isin([CANNOT_TELL, NOT_RUN])]
    parts = [
        markdown(counted(table)),
        "### Sentences of the text",
        markdown(_shown_sentences(sentences)),
    ]
    if not decided.empty:
        shown = decided[["claim", "data", "ours", "verdict"]]
        parts += ["### Decided numbers and differences of Table 1", markdown(shown)]
    for data, rows in compared.groupby("data", sort=False):
        parts += [f"### What the sentences compare on {data}", markdown(_shown_differences(rows))]
    rules = "\n".join(f"* **{name}**: {text}." for name, text in (RULES | WORDS).items())
    return "\n\n".join([*map(str.rstrip, parts), "### The rules", rules]) + "\n"


def _shown_sentences(sentences: pd.DataFrame) -> pd.DataFrame:
    """Sentences with their verdicts; of open ones what could have been detected, or is missing."""
    rows = []
    for row in sentences.itertuples():
        lacks = ""
        if pd.notna(row.detectable):
            counted = "fewer false nuclei" in row.claim
            lacks = f"{row.detectable:.1f} per image" if counted else f"{row.detectable:.3f}"
        elif row.verdict in (CANNOT_TELL, NOT_RUN) and row.missing:
            lacks = f"missing: {row.missing.partition(':')[0]}"
        claim = f"{row.claim} ({row.source})"
        if row.beside:
            claim += f"<br>for comparison: {row.beside}"
        line = {"claim": claim, "data": row.data, "verdict": f"**{row.verdict}**"}
        rows.append(line | {DETECTABLE: lacks})
    return pd.DataFrame(rows)


def _shown_differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Differences with their intervals; where nothing could be tested, with how few images."""
    lines = []
    for row in rows.itertuples():
        pair = f"{row.method.removeprefix('S2L + ')} - {row.against.removeprefix('S2L + ')}"
        line = {"score": row.score, "difference": pair, "paper": _signed(row.paper)}
        line |= {"ours": _signed(row.ours) or "not measured", "95 % interval": "", "p": ""}
        if pd.notna(row.low):
            line["95 % interval"] = f"{_signed(row.low)}{TO}{_signed(row.high)}"
            line["p"] = f"{row.p:.3f}"
        elif pd.notna(row.ours):
            line["95 % interval"] = f"none: {row.images} images, {row.runs} runs"
        lines.append(line)
    return pd.DataFrame(lines)


def _signed(value: float) -> str:
    """A difference with its sign; nothing where there is none."""
    return "" if pd.isna(value) else f"{value:+.3f}"
