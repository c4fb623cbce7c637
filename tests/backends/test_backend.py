"""Every backend gives torch's logits, whatever the batch; what cannot be had here is refused in one line."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from geodistill.backends import BACKENDS
from geodistill.backends import backend as opening
from geodistill.backends.backend import Backend, available, open_backend, open_graph, precisions
from geodistill.backends.choose import TOLERANCE, Candidate, Choice, choose_backend
from geodistill.backends.graph import example, to_onnx
from geodistill.errors import ArtifactError, RecipeError, UnknownNameError
from geodistill.segmenter import Segmenter
from tiny import tiny_networks, tiny_segmenter
from where import SUPPORT

pytestmark = pytest.mark.usefixtures("tiny_models")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    with tiny_networks():
        return tiny_segmenter("context", channels=4, classes=5, tile=32)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest, segmenter: Segmenter) -> Backend:
    return open_backend(request.param, segmenter, device="cpu", size=32, batch=2)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_logits_are_torchs_for_any_number_of_images(backend: Backend, segmenter: Segmenter, count: int) -> None:
    images = example(segmenter.spec, (count, 32, 32)) + 1
    with torch.no_grad():
        expected = segmenter(images)
    found = backend(images.contiguous(memory_format=torch.channels_last))
    assert (found.dtype, backend.precision) == (torch.float32, "fp32")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_result_is_not_overwritten_by_the_next_call(backend: Backend, segmenter: Segmenter) -> None:
    first = backend(example(segmenter.spec, (2, 32, 32)))
    kept = first.clone()
    backend(example(segmenter.spec, (2, 32, 32)) * 2)
    assert torch.equal(first, kept)


@pytest.mark.slow
def test_signals_are_heard_after_two_graphs_are_gone(segmenter: Segmenter, tmp_path: Path) -> None:
    graph = tmp_path / "network.onnx"
    to_onnx(segmenter, graph, size=32, batch=1)
    done = subprocess.run(
        [sys.executable, SUPPORT / "two_graphs.py", graph], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


@pytest.mark.slow
def test_side_by_side_or_not_the_numbers_are_the_same(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, graph = example(segmenter.spec, (5, 32, 32)), tmp_path / "network.onnx"
    to_onnx(segmenter, graph, size=32, batch=1)
    alone = open_graph("openvino", graph, "cpu", "fp32", 1)(images)
    monkeypatch.setattr(opening.torch, "get_num_threads", lambda: 3)
    for name, streams in (("onnx", 1), ("onnx", 3), ("openvino", 3)):
        found = open_graph(name, graph, "cpu", "fp32", streams)(images)
        torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


def test_lower_precision_is_coarser_and_close(segmenter: Segmenter) -> None:
    images = example(segmenter.spec, (2, 32, 32))
    with torch.no_grad():
        expected = segmenter(images)
    wanted = [("torch", "bf16")] + [("openvino", p) for p in precisions("openvino", "cpu") if p != "fp32"]
    for name, precision in wanted:
        lower = open_backend(name, segmenter, device="cpu", precision=precision, size=32, batch=2)  # type: ignore[arg-type]
        found = lower(images)
        assert (lower.precision, found.dtype) == (precision, torch.float32)
        assert not torch.equal(found, expected)
        torch.testing.assert_close(found, expected, atol=0.1, rtol=0.1)


def test_compiled_torch_fills_a_smaller_batch_up(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def compile(module: Segmenter, dynamic: bool) -> object:
        def run(images: torch.Tensor, prompt: None) -> torch.Tensor:
            shapes.append(tuple(images.shape))
            logits: torch.Tensor = module(images)
            return logits

        assert dynamic is False
        return run

    monkeypatch.setattr(torch, "compile", compile)
    backend = open_backend("torch", segmenter, device="cpu", size=32, batch=4, compile=True)
    images = example(segmenter.spec, (3, 32, 32))
    with torch.no_grad():
        torch.testing.assert_close(backend(images), segmenter(images))
    assert shapes == [(4, 4, 32, 32)]


def test_what_cannot_be_had_is_told(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(name: str = "torch", **more: object) -> Backend:
        return open_backend(name, segmenter, **({"device": "cpu", "size": 32, "batch": 2} | more))  # type: ignore[arg-type]

    with pytest.raises(UnknownNameError, match=r"unknown backend 'onxx'.*onnx"):
        ask("onxx")
    with pytest.raises(UnknownNameError, match="unknown precision 'int4'"):
        ask(precision="int4")
    with pytest.raises(RecipeError, match=r"precision fp16 with onnx on this cpu; expected one of fp32"):
        ask("onnx", precision="fp16")
    with pytest.raises(RecipeError, match="compile with the backend onnx"):
        ask("onnx", compile=True)
    with pytest.raises(RecipeError, match="backend openvino on cuda"):
        ask("openvino", device="cuda")
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    assert available() == ("torch", "onnx")
    with pytest.raises(RecipeError, match=r"openvino not installed.*pip install 'geodistill\[export\]'"):
        ask("openvino")


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_file_that_is_no_graph(name: str, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(b"no graph at all")
    with pytest.raises(ArtifactError, match=r"network\.onnx does not open in O") as caught:
        open_graph(name, tmp_path / "network.onnx", "cpu", "fp32", 1)
    assert "\n" not in str(caught.value)


class Fake:
    """A backend of a given speed that errs in a given share of pixels."""

    def __init__(self, name: str, segmenter: Segmenter, pause: float, wrong: float) -> None:
        self.name, self.precision, self._inner = name, "fp32", segmenter
        self._pause, self._wrong = pause, wrong

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Wait, segment, spoil the first rows."""
        import time

        time.sleep(self._pause)
        logits: torch.Tensor = self._inner(images)
        rows = round(self._wrong * logits.shape[2])
        logits[:, :, :rows] = -logits[:, :, :rows]
        return logits


@pytest.mark.slow
def test_the_fastest_that_reproduces_torchs_classes_is_taken(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = {("onnx", "fp32"): (0.02, 0.0), ("openvino", "fp32"): (0.1, 0.0), ("openvino", "bf16"): (0.0, 0.5)}
    monkeypatch.setattr("geodistill.backends.choose.kept_graph", lambda *args: nullcontext(Path("network.onnx")))
    monkeypatch.setattr(
        "geodistill.backends.choose.precisions", lambda name, device: [p for n, p in speeds if n == name]
    )
    monkeypatch.setattr(
        "geodistill.backends.choose.open_graph",
        lambda name, path, device, precision, batch: Fake(name, segmenter, *speeds[name, precision]),
    )
    slow = Fake("torch", segmenter, 0.2, 0.0)
    monkeypatch.setattr("geodistill.backends.choose.TorchBackend", lambda *args: slow)
    backend, choice = choose_backend(segmenter, example(segmenter.spec, (2, 32, 32)), device="cpu")
    assert (backend.name, choice.name, choice.precision) == ("onnx", "onnx", "fp32")
    assert [c.changed > TOLERANCE for c in choice.tried] == [False, False, False, True]
    assert choice.tried[0].speedup > choice.tried[1].speedup > 1
    assert choice.tried[-1].changed > 0.3


def test_a_choice_among_what_is_installed_gives_torchs_map(segmenter: Segmenter) -> None:
    images = example(segmenter.spec, (2, 32, 32))
    backend, choice = choose_backend(segmenter, images, device="cpu", precision="fp32")
    with torch.no_grad():
        assert torch.equal(backend(images).argmax(1), segmenter(images).argmax(1))
    assert {c.name for c in choice.tried} == set(available())
    assert (choice.name, choice.precision) == (backend.name, "fp32")


def test_little_work_is_left_to_torch(segmenter: Segmenter) -> None:
    backend, choice = choose_backend(segmenter, example(segmenter.spec, (2, 32, 32)), device="cpu", expected=3)
    assert (backend.name, choice.tried) == ("torch", ())
    assert str(choice) == "backend torch fp32: 3 windows take torch less than 20 s"


def test_a_network_that_cannot_be_exported_stays_with_torch(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> object:
        raise ArtifactError("network context cannot be exported")

    monkeypatch.setattr("geodistill.backends.choose.kept_graph", refuse)
    for precision in ("fp32", "bf16"):
        _, choice = choose_backend(segmenter, example(segmenter.spec, (2, 32, 32)), device="cpu", precision=precision)  # type: ignore[arg-type]
        assert (choice.name, choice.precision) == ("torch", precision)
        assert "cannot be exported" in str(choice)


@pytest.mark.parametrize("expected", [None, 2])
def test_a_precision_that_nothing_here_has_is_refused(
    expected: int | None, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodistill.backends.choose.available", lambda device: ("torch",))
    images = example(segmenter.spec, (2, 32, 32))
    with pytest.raises(RecipeError, match="precision fp16 on this cpu; expected one of bf16, fp32; nothing but torch"):
        choose_backend(segmenter, images, device="cpu", precision="fp16", expected=expected)


def test_the_choice_is_told_with_its_tolerance() -> None:
    tried = (Candidate("openvino", "bf16", 5.86, 0.0002), Candidate("torch", "fp32", 1.0, 0.0))
    assert str(Choice("openvino", "bf16", tried)) == (
        "backend openvino bf16: openvino bf16 5.9x, 0.020 % of pixels differ; "
        "torch fp32 1.0x, 0.000 % of pixels differ (tolerance 0.1 %)"
    )
