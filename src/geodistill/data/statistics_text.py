"""The text of ``data stats``: splits, classes, bands and sizes of a data set."""

from __future__ import annotations

from geodistill.data.findings import label_notes
from geodistill.data.manifest import Manifest
from geodistill.data.statistics import SPLITS, Statistics


def format_statistics(statistics: Statistics, manifest: Manifest) -> str:
    """Write statistics as the text that ``data stats`` prints."""
    lines = ["split       images     pixels   valid"]
    for split in (s for s in SPLITS if s in statistics.images):
        share = statistics.valid_pixels.get(split, 0) / max(statistics.pixels[split], 1)
        lines.append(
            f"{split:10s} {statistics.images[split]:7d} {statistics.pixels[split] / 1e6:8.2f} M {100 * share:6.1f}%"
        )
    if manifest.legend is not None:
        splits = [split for split in SPLITS if split in statistics.class_pixels]
        width = max(len("class"), *(len(name) for name in manifest.legend.names), len("(ignored)"))
        lines += ["", f"{'class':{width}s}" + "".join(f"{split:>9s}" for split in splits)]
        for index, name in enumerate((*manifest.legend.names, "(ignored)")):
            shares = ""
            for split in splits:
                counts = (*statistics.class_pixels[split], statistics.ignored_pixels.get(split, 0))
                shares += f"{100 * counts[index] / max(sum(counts), 1):8.2f}%"
            lines.append(f"{name:{width}s}{shares}")
    lines += ["", f"band{'':12s}     mean      std      min      max   (of {', '.join(statistics.splits)})"]
    for figures in zip(
        manifest.bands, statistics.mean, statistics.std, statistics.minimum, statistics.maximum, strict=False
    ):
        lines.append(f"{figures[0]:16s}" + "".join(f" {value:8.6g}" for value in figures[1:]))
    lines.append("")
    for name, spread in (("height", statistics.height), ("width", statistics.width), ("gsd m/px", statistics.gsd)):
        if spread is not None:
            lines.append(f"{name}: {spread.minimum:g} to {spread.maximum:g}, median {spread.median:g}")
    if statistics.unknown_labels:
        most = sorted(statistics.unknown_labels.items(), key=lambda item: -item[1])
        named = ", ".join(f"{label} ({count} pixels)" for label, count in most[:6])
        lines.append(f"labels in no legend entry: {named}{f' and {len(most) - 6} more' if len(most) > 6 else ''}")
    lines += [f"note: {line}" for line in label_notes(manifest, statistics)]
    lines += [f"problem: {problem}" for problem in statistics.problems]
    return "\n".join(lines)
