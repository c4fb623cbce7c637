"""The table of trials: ``python tests/torture/report.py trials.jsonl``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

COLUMNS = ("right", "line", "told", "stopped", "traceback", "crash", "hang", "silent", "left", "noisy", "missed", "bad")


def table(file: Path) -> str:
    """Return counts by class of trial and command, and what the bad ones said."""
    trials = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows: dict[tuple[str, str], Counter[str]] = {}
    for trial in trials:
        for key in ((trial["kind"], trial["what"]), ("all", "")):
            row = rows.setdefault(key, Counter())
            row.update(["tried", trial["outcome"], *([] if trial["good"] else ["bad"])])
    columns = ["tried", *COLUMNS]
    lines = [f"{'kind':<18} {'what':<22} " + " ".join(f"{name:>9}" for name in columns)]
    for (kind, what), row in sorted(rows.items(), key=lambda item: (item[0][0] == "all", item[0])):
        cells = " ".join(f"{row[name] or '':>9}" for name in columns)
        lines.append(f"{kind:<18} {what:<22} {cells}")
    bad: Counter[str] = Counter()
    for trial in trials:
        if not trial["good"]:
            bad[f"{trial['kind']}, {trial['what']}: {trial['outcome']}: {trial['said']}"] += 1
    return "\n".join([*lines, "", *(f"{number:4} x {text}" for text, number in bad.most_common())])


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
