import pytest

from geodistill.errors import UnknownNameError
from geodistill.lazy import choose, load

TABLE = {"join": "posixpath:join", "split": "posixpath:split"}


def test_a_part_is_imported_by_its_name() -> None:
    assert load("json.decoder:JSONDecoder").__name__ == "JSONDecoder"
    assert choose("verb", "join", TABLE)("a", "b") == "a/b"


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown verb 'jion'; expected one of join, split"):
        choose("verb", "jion", TABLE)
