"""The hub of pretrained weights from a machine without a way to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from ssl import SSLError
from urllib.error import URLError
from urllib.request import Request, urlopen

ANSWER_SECONDS = 5.0
"""How long a way to the hub may take to be there."""


@contextmanager
def local_where_unreachable() -> Iterator[None]:
    """Let the hub's client look on this machine alone where the hub does not answer.

    It would try each file again and again, for most of a minute in all, also where it has fetched them before.
    """
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline or not _answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


def _answers(address: str) -> bool:
    """Whether there is a way to an address: all but a failure to reach it at all is the client's matter."""
    try:
        urlopen(Request(address, method="HEAD"), timeout=ANSWER_SECONDS).close()
    except URLError as error:  # the reason is a text where it was reached and refuses
        return not isinstance(error.reason, OSError) or isinstance(error.reason, SSLError)
    except (HTTPException, OSError, ValueError):  # it was reached and answers badly or late, or is no address
        return True
    return True
