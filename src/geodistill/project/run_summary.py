"""``run.json``: a whole project in one record that another program can read."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from geodistill.files import write_text
from geodistill.project.planning import StagePlan
from geodistill.project.project_file import ProjectFile
from geodistill.version import __version__

SUMMARY = "run.json"
"""File in the project's folder."""


def write_summary(
    project: ProjectFile, plans: Mapping[str, StagePlan], seconds: float, failed: tuple[str, str] | None = None
) -> dict[str, Any]:
    """Write inputs with checksums, versions, seeds, scores and seconds of every stage, and return them.

    Args:
        project: The project.
        plans: What became of each stage.
        seconds: How long this run took.
        failed: The stage that ended it, and why.

    Raises:
        OutputError: It cannot be written.
    """
    stages = {name: _stage(plan) for name, plan in plans.items()}
    if failed is not None:
        stages[failed[0]] |= {"state": "failed", "error": failed[1]}
    inputs: dict[str, str] = {}
    for plan in plans.values():
        if plan.parts is not None:
            inputs |= plan.parts.files
    summary = {
        "geodistill": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "project": str(project.path),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
        "inputs": inputs,
        "stages": stages,
    }
    write_text(project.out / SUMMARY, json.dumps(summary, indent=1), errors="surrogatepass")
    return summary


def _stage(plan: StagePlan) -> dict[str, Any]:
    data: dict[str, Any] = {"state": plan.state, "reason": plan.reason, "key": plan.key}
    record = plan.record
    if record is None or plan.stage.entry.given:
        return data
    return data | {
        "seconds": record.seconds,
        "finished": record.finished,
        "versions": dict(record.versions),
        "summary": record.summary,
        "facts": dict(record.facts),
        "files": len(record.outputs),
        "bytes": sum(stamp[0] for stamp in record.outputs.values()),
        "digest": record.digest,
    }
