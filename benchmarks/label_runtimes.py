"""SAM's encoder and mask decoder in ONNX Runtime and OpenVINO against ours in torch, float32, alternating in one run.

Run ``python benchmarks/label_runtimes.py``; weights are random. A runtime would be kept from 1.5 times our speed on.
Times are those of the process over all threads, so that other work on the machine counts little; use
``OMP_NUM_THREADS=1``. Three encoder layers (two windowed, one global) stand for ViT-B's twelve.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
import transformers
from torch import Tensor, nn

from geodistill.label.segmenters import sam_decoder as decoder_module
from geodistill.label.segmenters.sam_decoder import ImageContext, MaskDecoder, SharedKeys
from geodistill.label.segmenters.sam_model import lighten

KEPT_FROM = 1.5
Runner = Callable[[], Any]


class Encoding(nn.Module):
    """An image encoder with one output, for export."""

    def __init__(self, model: Any) -> None:
        """Take the model by reference."""
        super().__init__()
        self.encoder = model.vision_encoder

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode ``(1, 3, 1024, 1024)``."""
        features: Tensor = self.encoder(pixels)[0]
        return features


class TheirDecoding(nn.Module):
    """Transformers' prompt encoder and mask decoder for one box, for export."""

    def __init__(self, model: Any) -> None:
        """Take the model by reference."""
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Decode one box ``(1, 1, 4)``."""
        masks: Tensor = self.model(image_embeddings=features, input_boxes=boxes, multimask_output=False).pred_masks
        return masks


class OurDecoding(nn.Module):
    """Our mask decoder for one embedded box, for export."""

    def __init__(self, model: Any) -> None:
        """Take the model by reference."""
        super().__init__()
        self.model, self.decoder = model, MaskDecoder(model)

    def forward(self, keys: Tensor, shared: Tensor, k: Tensor, v: Tensor, q: Tensor, box: Tensor) -> Tensor:
        """Decode one embedded box ``(1, 2, C)`` on the parts of an `ImageContext`."""
        return self.decoder(ImageContext(keys, None, None, SharedKeys(shared, k, v, q)), box, None)[0]


def make_model(layers: int) -> Any:
    """Return SAM ViT-B with so many encoder layers and random weights whose activations are of a sane size."""
    torch.manual_seed(0)
    vision = {"num_hidden_layers": layers, "global_attn_indexes": list(range(2, layers, 3))}
    model = transformers.SamModel(transformers.SamConfig(vision_config=vision)).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "positional" not in name:
            parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


def exported(module: nn.Module, inputs: tuple[Tensor, ...], folder: Path, threads: int) -> dict[str, Runner]:
    """Return runners of a module in both runtimes, in float32."""
    path = folder / f"{type(module).__name__}.onnx"
    torch.onnx.export(module.eval(), inputs, path, opset_version=18, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = {put.name: value.numpy() for put, value in zip(session.get_inputs(), inputs, strict=True)}
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return {
        "ONNX Runtime": lambda: session.run(None, feeds)[0],
        "OpenVINO": lambda: compiled(list(feeds.values()))[0],
    }


def compare(title: str, ours: str, runners: dict[str, Runner], repeats: int) -> None:
    """Time all runners in turn and print them against ours, with the largest difference of their numbers."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    results = {name: np.asarray(run()).ravel() for name, run in runners.items()}
    for _ in range(repeats):
        for name, run in runners.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    least = {name: min(values) for name, values in times.items()}
    print(title)
    for name, seconds in least.items():
        speed = least[ours] / seconds
        difference = np.abs(results[name] - results[ours]).max()
        kept = "would be kept" if speed >= KEPT_FROM else ""
        print(
            f"  {name:<34} {1e3 * seconds:9.1f} ms {speed:6.2f}x ours, differs by {difference:.1e} {kept}", flush=True
        )


def main() -> None:
    """Measure and print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=3, help="layers of the encoder")
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    threads = torch.get_num_threads()
    model, light = make_model(options.layers), make_model(options.layers)
    lighten(light)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        pixels = torch.randn(1, 3, 1024, 1024)
        runners: dict[str, Runner] = {
            "ours": lambda: Encoding(light)(pixels),
            "transformers": lambda: Encoding(model)(pixels),
        }
        runners |= exported(Encoding(model), (pixels,), Path(folder), threads)
        compare(f"encoder, {options.layers} layers, {threads} threads", "ours", runners, options.repeats)
        features, box = torch.randn(1, 256, 64, 64), torch.tensor([[[100.0, 120.0, 180.0, 200.0]]])
        ours, theirs = OurDecoding(light), TheirDecoding(model)
        context = ours.decoder.prepare((features,))
        inputs = (context.keys, *context.shared, light.prompt_encoder(None, None, box, None)[0][0])
        runners = {"ours": lambda: ours(*inputs), "transformers": lambda: theirs(features, box)}
        block = decoder_module.CPU_BLOCK
        decoder_module.CPU_BLOCK = 1 << 20  # an exported graph is one block
        for module, given in ((ours, inputs), (theirs, (features, box))):
            named = exported(module, given, Path(folder), threads).items()
            runners |= {f"{'our' if module is ours else 'their'} decoder in {name}": run for name, run in named}
        decoder_module.CPU_BLOCK = block
        compare(f"decoder, one box, {threads} threads", "ours", runners, 3 * options.repeats)


if __name__ == "__main__":
    main()
