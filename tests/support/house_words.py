"""Words of our own making, and what the field says instead."""

from __future__ import annotations

NAMES: dict[str, str] = {
    "told": "message, messages, note",
    "held": "the noun: annotations, raster, cached",
    "found": "the noun: boxes, matches, problems, report",
    "own": "the noun: student_features, verb_flags",
    "seen": "the noun: visible, known, read",
    "made": "the noun: scene_map, mask, written",
    "wanted": "the noun: layers, required",
    "whereabouts": "location",
    "bench": "distillation terms",
    "judge": "discriminator",
    "judgement": "discriminator_score",
    "Wanted": "OutputLayers",
    "Whereabouts": "LocationHint",
    "Placed": "PerPlaceModel",
    "Begun": "WarmStart",
    "Look": "Preview",
    "Found": "RawBox",
    "Read": "ReadResult",
    "Work": "WorkerOptions",
    "Question": "PromptAblation",
    "Held": "WorkerCache",
    "_Held": "WorkerCache",
    "_Work": "TileJob",
}
"""Names of variables, arguments, fields, functions and classes."""

PHRASES = {
    r"\b(is|are|was|were|be|been) told\b(?! apart)|\btold (of|about|on|by|with)\b": "printed, reported, named",
    r"\bwhereabouts\b": "location",
    r"\bbench(es)?\b": "distillation terms",
    r"\b(judges?|judgements?)\b": "discriminator, discriminator score",
    r"\b(a|an|one) (line|band|instance|mask|file|image|row|value|annotation|object|name|sentence|piece|layer|class"
    r"|colour|prompt|group|head|adapter|window|mapping|finding|distribution) (a|an) \w+": "one ... per ...",
    r"\bwindows? a forward pass\b": "windows per forward pass",
    r"\bcan(not| not)? be had\b|\bto be had\b": "not available; download from",
    r"\bdoes not do\b": "is not supported",
    r"\blies? nowhere\b": "not georeferenced",
    r"\basks? where\b": "MetaSegNet only",
    r"\blet the libraries talk\b": "show library logs",
    r"\bthrow an earlier run\b": "overwrite an existing run",
    r"\bout of the house\b": "export",
    r"\bexits\b": "exports",
    r"\bhow coarse outlines\b": "simplification tolerance",
    r"\bchooses among equally good\b": "random seed",
    r"\bnobody need know\b|\bno one listening\b|\bnobody's\b|\bstranger\b": "the condition itself",
    r"\bbeside their teacher\b": "compared with their teacher",
    r"\bwhat 8-bit integers cost\b": "accuracy drop",
    r"\bsureness(es)?\b": "confidence, or which measure of it",
    r"\bof those who name none\b|\b(none|no \w+|other \w+) of its(?=[.,;:)])": "the condition itself",
}
"""Passages of code, comments, help texts and documents, in any case, also across a line's end."""
