"""All about a benchmark set, as text and as JSON."""

from __future__ import annotations

from typing import Any

from geodistill.data.catalog.benchmark import Benchmark


def as_dict(benchmark: Benchmark) -> dict[str, Any]:
    """Give a JSON-ready form."""
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "kind": benchmark.kind,
        "classes": [] if benchmark.legend is None else list(benchmark.legend.names),
        "bands": list(benchmark.bands),
        "gsd": benchmark.gsd,
        "layouts": {
            name: {
                "images": list(layout.images),
                "masks": list(layout.masks),
                "bands": list(layout.bands or benchmark.bands),
            }
            for name, layout in benchmark.layouts.items()
        },
        "splits": {
            name: "drawn by seed" if callable(split) else {part: len(ids) for part, ids in split.items()}
            for name, split in benchmark.splits.items()
        },
        "unlabelled": list(benchmark.unlabelled),
        "source": benchmark.source,
        "licence": benchmark.licence,
        "note": benchmark.note,
        "labels": benchmark.labels,
    }


def tell(benchmark: Benchmark) -> str:
    """Write all about a set."""
    data = as_dict(benchmark)
    lines = [f"{benchmark.title} ({benchmark.name})", f"source   {benchmark.source}", f"licence  {benchmark.licence}"]
    if benchmark.kind == "boxes":
        made = f"geodistill label build {benchmark.labels} --images ... --boxes ... --out ..."
        return "\n".join([*lines, f"masks    {made}"])
    lines += [f"classes  {', '.join(data['classes'])}", f"bands    {', '.join(benchmark.bands)}"]
    lines += [f"gsd      {benchmark.gsd:g} m"] if benchmark.gsd else []
    for name, layout in benchmark.layouts.items():
        lines.append(f"layout   {name}: {layout.images[0]} + {layout.masks[0]}")
    for name, split in data["splits"].items():
        told = split if isinstance(split, str) else ", ".join(f"{part} {count}" for part, count in split.items())
        lines.append(f"split    {name}: {told}")
    lines += [f"withheld masks of {', '.join(benchmark.unlabelled)}"] if benchmark.unlabelled else []
    return "\n".join([*lines, *([f"note     {benchmark.note}"] if benchmark.note else [])])
