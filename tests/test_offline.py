from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from huggingface_hub import constants

import geodistill as gd
from geodistill.description import find_segmenter
from geodistill.errors import ArtifactError
from geodistill.label.segmenters.promptable import build_segmenter
from geodistill.nn import encoders
from geodistill.offline import local_where_unreachable
from geodistill.text.text_encoders import local_directory, open_text_encoder


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_a_hub_that_answers_is_asked_be_it_with_a_refusal(answering: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"http://{answering}")
    with local_where_unreachable():
        assert not constants.is_offline_mode()


def test_a_certificate_is_the_clients_to_judge(answering: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", f"https://{answering}")
    with local_where_unreachable():
        assert not constants.is_offline_mode()


@pytest.mark.parametrize("answer", [b"220 ftp ready\r\n", b"", None])
def test_a_hub_that_answers_badly_or_late_is_the_clients_to_judge(
    answer: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodistill.offline.ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reply() -> None:
            with server.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(answer or b"")

        if answer is not None:
            Thread(target=reply, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with local_where_unreachable():
            assert not constants.is_offline_mode()


def test_an_endpoint_that_is_no_address_is_the_clients_to_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("hub.example", "hub://example"):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        with local_where_unreachable():
            assert not constants.is_offline_mode()


@pytest.mark.parametrize("address", ["closed", "http://no-such-host.invalid"])
def test_a_hub_without_a_way_to_it_is_not_asked(address: str, closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", closed if address == "closed" else address)
    with suppress(KeyError), local_where_unreachable():
        assert constants.is_offline_mode()
        raise KeyError
    assert not constants.is_offline_mode()


def test_a_hub_that_is_not_to_be_asked_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("geodistill.offline.urlopen", lambda *_, **__: pytest.fail("called"))
    with local_where_unreachable():
        assert constants.is_offline_mode()
    assert constants.is_offline_mode()


def test_whatever_is_on_the_hub_is_looked_for_so(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def build(request: Any) -> Any:
        asked.append(constants.is_offline_mode())
        raise OSError("no weights")

    monkeypatch.setattr(constants, "ENDPOINT", closed)
    monkeypatch.setattr(encoders, "build_body", build)
    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", lambda *_, **__: build(None))
    with pytest.raises(ArtifactError, match="not available"):
        gd.build_encoder("mobilenetv2_050", 3, "pretrained")
    with pytest.raises(ArtifactError, match="not available"):
        build_segmenter("sam:facebook/sam-vit-base")
    for function in ("snapshot_download", "hf_hub_download"):
        monkeypatch.setattr(f"huggingface_hub.{function}", lambda *_, **__: build(None))
    for look in (local_directory, open_text_encoder, find_segmenter):
        with pytest.raises(ArtifactError):
            look("RemoteCLIP-ViT-B-32" if look is open_text_encoder else "someone/model")
    assert asked == [True] * 5
