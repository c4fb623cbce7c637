"""The commands of the page on SEP, run as they stand on made-up sets (training cut to a few tiny steps)."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from detection_sets import make_detection_set
from geodistill.cli import main
from geodistill.methods.sep.network import SHARED_DECODERS
from geodistill.methods.sep.training import SepRecipe
from geodistill.nn.encoders import build_encoder
from geodistill.segmenter import Segmenter
from geodistill.synthetic import REGIONS, write_dataset
from geodistill.training.recipe import load_recipe, recipe_keys
from shown import shown_blocks

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[3] / "docs" / "sep.md"
GUIDE = PAGE.read_text(encoding="utf-8")
SHORT = shlex.split(
    "--network.encoder test_resnet --network.encoder_weights null --network.decoder_channels 16 --data.crop 32"
    " --data.batch_size 4 --data.workers 0 --trainer.accelerator cpu --trainer.max_steps 2 --trainer.pictures 0"
)


def test_the_walk_leads_from_boxes_to_a_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_detection_set(tmp_path / "port", 6)
    write_dataset("town", REGIONS["north"], 6, 64)
    write_dataset("fields", REGIONS["south"], 6, 64)
    shutil.copy(next(Path("fields/images").iterdir()), "scene.tif")
    for command in shown_blocks(PAGE)[0]:
        assert main(command + (SHORT if command[0] == "fit" else [])) == 0, capsys.readouterr().err
    names = Segmenter.load("runs/sep").spec.legend.names
    assert {name.split(":")[0] for name in names} == {"port", "town"}
    assert Segmenter.load("runs/fields").spec.classes == 7
    assert Path("map.tif").is_file()


def test_flags_and_names_on_the_page_are_known() -> None:
    keys = set(recipe_keys(SepRecipe))
    for flag in re.findall(r"--((?:data|network|optimizer|schedule|trainer)\.[a-z_]+)", GUIDE):
        assert flag in keys
    for line in re.findall(r"\| `(--optimizer[^`]*)`", GUIDE):
        load_recipe("sep", shlex.split(line))
    assert re.findall(r"^\| `(\w+)` \|", GUIDE.partition("## Encoders")[0], re.MULTILINE) == list(SHARED_DECODERS)


@pytest.mark.parametrize("line", re.findall(r"^\| [^|]* \| (`[^|]*) \| timm \|", GUIDE, re.MULTILINE))
def test_the_encoders_that_are_said_to_be_there_are(line: str) -> None:
    for name in re.findall(r"`([^`]+)`", line):
        with torch.device("meta"):
            assert len(build_encoder(name).channels) >= 4
