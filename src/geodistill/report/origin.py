"""The section on where everything comes from: settings, versions, files."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from geodistill.report.evaluated import Evaluation
from geodistill.report.markup import Html, element, join
from geodistill.report.page import Section, wide
from geodistill.report.trained import Training
from geodistill.segmenter import Segmenter


def origin_section(
    training: Training | None, segmenter: Segmenter | None, evaluations: Sequence[Evaluation]
) -> Section:
    """Return the section of the recipe, versions and files of a run and its evaluations."""
    rows: list[tuple[str, str]] = []
    figures: dict[str, object] = {}
    if training is not None:
        rows.append(("run", str(training.folder)))
        figures["recipe"] = training.recipe
    if segmenter is not None:
        versions = segmenter.provenance.get("versions")
        if isinstance(versions, dict):
            rows.append(("trained with", ", ".join(f"{name} {version}" for name, version in versions.items())))
            figures["versions"] = versions
        rows.append(("windows", f"{segmenter.tile} pixels"))
        rows.append(("bands", ", ".join(segmenter.spec.bands)))
        figures["fingerprint"] = segmenter.fingerprint()
        rows.append(("model (SHA-256)", str(figures["fingerprint"])))
    for evaluation in evaluations:
        rows.append((f"evaluation on {evaluation.split}", f"{evaluation.folder}, of {evaluation.manifest}"))
    pairs = [
        element("tr", None, element("th", {"scope": "row"}, name), element("td", None, text)) for name, text in rows
    ]
    table = element("table", {"class": "facts"}, element("tbody", None, pairs))
    body = join(wide("Where it comes from", table), None if training is None else _recipe(training))
    return Section("origin", "Origin", body, figures)


def _recipe(training: Training) -> Html:
    text = yaml.safe_dump(dict(training.recipe), sort_keys=False)
    return element("details", None, element("summary", None, "The whole recipe"), element("pre", None, text))
