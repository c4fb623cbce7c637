"""What a review answers where two browsers meet at one object."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodistill.errors import BusyError
from geodistill.review.leases import SECONDS
from geodistill.review.review_labels import ReviewOptions, open_review
from reviewed import make_labels


def test_a_decision_about_what_another_browser_shows_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_review(make_labels(tmp_path)[1], ReviewOptions()) as (session, _):
        first = session.open_place("a", "Ada", 0)
        taken = session.decide("a", "Ada", first["id"], "accept", 0)
        session.next_object("a", "Ada")
        session.open_place("b", "Bea", 0)
        with pytest.raises(BusyError, match="Bea looks at the object of your last decision"):
            session.undo("a", "Ada")
        assert session.view(first["id"])["last"] == taken, "all is as it was"
        now = session.leases._clock() + SECONDS
        monkeypatch.setattr(session.leases, "_clock", lambda: now)  # Bea went away
        back = session.undo("a", "Ada")
        assert back is not None
        assert back["verdict"] == "undecided"
        with pytest.raises(BusyError, match=f"object {first['id']} was taken back meanwhile by Ada"):
            session.decide("b", "Bea", first["id"], "drop", taken)
