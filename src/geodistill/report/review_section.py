"""The section of what people decided about a label set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geodistill.errors import counted
from geodistill.label.accounts import ReviewCounts
from geodistill.label.share_of_good import GoodShare
from geodistill.report.charts import interval_bar
from geodistill.report.labelled import LabelledBoxes
from geodistill.report.markup import Html, element, join
from geodistill.report.page import Section, class_colour, swatch, titled_table, wide

VERDICTS = {
    "accept": "accepted",
    "drop": "dropped",
    "box": "replaced by the box",
    "prompt": "drawn anew",
    "ignore": "ignored",
}
"""Words for the verdicts of `geodistill.label.decisions.Verdict`, in their order."""


def review_sentences(review: ReviewCounts | None) -> list[str]:
    """Say what people decided, and the share of good labels where it is known.

    Args:
        review: What ``label.json`` has under ``review``; nothing where nobody decided anything.
    """
    if not review:
        return []
    counts = [f"{VERDICTS[name]} {count:,}" for name, count in review["verdicts"].items() if count]
    people = counted(len(review["reviewers"]), "person", "people")
    lines = [f"{counted(review['decided'], 'object')} reviewed by {people}: {', '.join(counts) or 'none applied'}."]
    if sample := review.get("sample"):
        lines.append(f"{GoodShare.from_json(sample).text.capitalize()}.")
    if review["not_applied"]:
        left = counted(review["not_applied"], "decision")
        lines.append(f"{left} not applied: the segmenter has drawn these masks otherwise since.")
    return lines


def review_section(labels: LabelledBoxes) -> Section | None:
    """Return the section of the decisions by class; ``None`` where nobody decided anything."""
    review = labels.account.get("review")
    if not review:
        return None
    rows = [_row(labels, name, counts) for name, counts in review["classes"].items()]
    caption = "Decisions that are in the masks"
    table = titled_table("review", caption, ("class", "decided", *VERDICTS.values()), rows)
    return Section("review", "Review", join(_share(review.get("sample")), wide("Decisions by class", table)), review)


def _share(sample: Mapping[str, Any] | None) -> Html | None:
    """Draw the share of good labels with its interval."""
    if sample is None:
        return None
    share = GoodShare.from_json(sample)
    bar = interval_bar(share.good / max(share.seen_count, 1), share.interval, "plain")
    return element("figure", {"class": "narrow"}, element("figcaption", None, share.text.capitalize()), bar)


def _row(labels: LabelledBoxes, name: str, counts: Mapping[str, int]) -> Html:
    colour = class_colour(name, labels.legend)
    decided = [sum(counts.values()), *(counts.get(verdict, 0) for verdict in VERDICTS)]
    return element(
        "tr",
        None,
        element("th", {"scope": "row"}, swatch(colour), name),
        *(element("td", {"class": "n"}, f"{count:,}" if count else "\u2013") for count in decided),
    )
