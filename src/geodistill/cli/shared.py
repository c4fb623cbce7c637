"""Results as every verb prints them: text for people, JSON for programs."""

from __future__ import annotations

import json


def print_result(as_json: bool, data: object, text: str) -> None:
    """Print JSON for another program, or text for people."""
    print(json.dumps(data, indent=2) if as_json else text)


def print_json(data: object) -> None:
    """Print JSON for another program."""
    print(json.dumps(data, indent=2))
