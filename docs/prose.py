"""Plain English in the docs: ``python -m docs.prose`` names long sentences and phrases that have a plainer one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
AVERAGE, LONGEST, SHORTEST = 18, 40, 4  # words: a page's sentences on average, one at most, and one that counts
GENERATED = ("CHANGELOG.md", "commands.md")  # lists and help texts, whose length says little

PHRASES = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(takes?|took|taken|taking) (it |them |that )?along\b": "includes",
    r"\b(gives?|gave|giving) way\b": "is overwritten",
    r"\b(goes|go|went|going) on (where|with)\b": "resumes",
    r"\bas the plan saw\b": "unchanged since the plan",
    r"\bin trouble\b": "server error",
    r"\b(grow|grown|young) (old|heartbeats?)\b": "expire, recent",
    r"\bnobody can be asked\b": "cannot prompt: stdin is not a terminal",
    r"\bmakes? no sense\b": "are mutually exclusive",
    r"\ba defect of\b": "a bug in",
    r"\bpass(es|ed)? over\b": "ignore",
    r"\bnobody's\b|\bhad back\b": "orphan, reclaimable",
    r"\b(became|becomes?) of\b": "outcome of",
    r"\b(is|are|was|were) told\b|\btells\b": "reports, returns, says",
    r"\bin doubt\b": "unverified",
    r"\blook(s|ed)? again\b": "recheck",
    r"\bwhatever it is\b|\bas often as you like\b|\bby now\b|\bits business\b": "(leave out)",
    r"\berrs on\b": "overestimates, underestimates",
}


def sentences(text: str) -> list[list[str]]:
    """Return the words of each sentence of a page in Markdown; those of code and of links' targets are none."""
    text = re.sub(r"```.*?```|<!--.*?-->", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`", "code", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text))
    blocks = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.|>|#+) |\||\n(?=[|#>])", text)
    return [sentence.split() for block in blocks for sentence in re.split(r"(?<=[.!?])[)*_]*\s+", block)]


def faults(page: Path) -> list[str]:
    """Return what is wrong with a page."""
    text = page.read_text()
    found = [f"{m[0]!r}: {plain}" for bad, plain in PHRASES.items() for m in re.finditer(bad, text, re.IGNORECASE)]
    if page.name not in GENERATED:
        flowing = sentences(re.sub(r"^ *[|#].*$", "", text, flags=re.MULTILINE))  # tables lower the average
        lengths = [len(words) for words in flowing if len(words) >= SHORTEST]
        if sum(lengths) >= AVERAGE * max(1, len(lengths)):
            found.append(f"{sum(lengths) / len(lengths):.1f} words a sentence, {AVERAGE} or more")
        found += [f"{len(words)} words: {' '.join(words)}" for words in sentences(text) if len(words) > LONGEST]
    return [f"{page.relative_to(ROOT)}: {fault}" for fault in found]


if __name__ == "__main__":
    wrong = [fault for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]) for fault in faults(page)]
    sys.exit("\n".join(wrong) or 0)
