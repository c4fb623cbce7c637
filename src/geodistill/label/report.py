"""The account of a run as the text that ``label build`` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def format_account(account: dict[str, Any], out: Path) -> str:
    """Write what ``label.json`` holds as a few lines and a table of the classes.

    Args:
        account: What `geodistill.label.build.build` returned.
        out: The output folder.
    """
    images, boxes, tiles = account["images"], account["boxes"], account["tiles"]
    lines = [
        f"{out}: {images['in']} images in: {images['labelled']} labelled, {images['empty']} empty,"
        f" {images['failed']} failed",
        f"{tiles['in']} tiles: {tiles['labelled']} labelled, {tiles['empty']} empty, {tiles['failed']} failed;"
        f" {tiles['written']} written",
        f"{boxes['in']} boxes in: {boxes['labelled']} labelled{_counts(boxes['dropped'], ', dropped: ')}",
        f"{account['instances']} instances; {account['overlaps']['pixels']} pixels claimed more than once"
        f" ({account['overlaps']['pixels_between_classes']} by different classes),"
        f" {account['overlaps']['hidden_instances']} instances hidden",
    ]
    width = max((len(name) for name in account["classes"]), default=0)
    for name, entry in account["classes"].items():
        told = _counts(entry["dropped"], "; dropped ") + _counts(entry["changed"], "; ")
        lines.append(f"  {name:<{width}} {entry['in']:>8} in {entry['labelled']:>8} labelled{told}")
    without = account["annotations_without_image"]
    if without["count"]:
        more = (
            f" and {without['count'] - len(without['first'])} more" if without["count"] > len(without["first"]) else ""
        )
        lines.append(f"{without['count']} annotations without an image: {', '.join(without['first'])}{more}")
    manifest = account["manifest"]
    if manifest:
        splits = ", ".join(f"{name} {count}" for name, count in manifest["splits"].items())
        lines.append(f"{out / 'manifest.parquet'}: {splits}")
        if manifest["other_bands_left_out"]:
            lines.append(f"{manifest['other_bands_left_out']} images with another number of bands are not in it")
        lines += [f"problem: {problem}" for problem in manifest["problems"][:5]]
    lines += [f"failed: {failure['error']}" for failure in account["failures"][:5]]
    if len(account["failures"]) > 5:
        lines.append(f"... and {len(account['failures']) - 5} more failed")
    return "\n".join(lines)


def _counts(counts: dict[str, int], before: str) -> str:
    named = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    return before + named if named else ""
