"""An endpoint to ask, and the key it is asked with."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from geodistill.text.llm import KEY_VARIABLES
from stand_in_llm import SECRET, Handler, StandIn


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the client try again at once, where it would wait for seconds."""
    monkeypatch.setattr("openai._base_client.BaseClient._calculate_retry_timeout", lambda *_: 0.01)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(KEY_VARIABLES[0], SECRET)
    stand_in = StandIn(("127.0.0.1", 0), Handler)
    stand_in.daemon_threads = True
    stand_in.plan, stand_in.asked = ["say:Grey blocks."], []
    stand_in.url = f"http://127.0.0.1:{stand_in.server_address[1]}/v1"
    threading.Thread(target=stand_in.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield stand_in
    stand_in.shutdown()
    stand_in.server_close()
