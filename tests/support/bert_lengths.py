"""Lengths of texts in tokens of BERT, by the stored word pieces of the words of all shipped texts."""

from __future__ import annotations

import json
import re
from pathlib import Path

STORED = json.loads((Path(__file__).parent / "bert_pieces.json").read_text(encoding="utf-8"))
PIECES = {word: int(count) for count, words in STORED["words_by_pieces"].items() for word in words.split()}


class StoredBert:
    """Counts as BERT's tokeniser does: lower case, split at blanks and signs, word pieces, two tokens around a text."""

    name, fingerprint, width = "bert", "bert", 768

    def tokens(self, text: str) -> int:
        words = re.findall(r"[^\W_]+|[^\w\s]|_", text.lower())
        assert [word for word in words if word not in PIECES] == [], "count them under the encoder's vocabulary"
        return 2 + sum(PIECES[word] for word in words)
