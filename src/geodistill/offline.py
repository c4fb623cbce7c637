"""The hub of pretrained weights from a machine without a way to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLError
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

ANSWER_SECONDS = 5.0
"""How long the hub may take to answer at all."""


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
    """Whether there is a way to an address, be it to a refusal or to a certificate, which is the client's matter."""
    try:
        urlopen(Request(address, method="HEAD"), timeout=ANSWER_SECONDS).close()
    except HTTPError:
        return True
    except URLError as error:
        return isinstance(error.reason, SSLError)
    except TimeoutError:
        return False
    return True
