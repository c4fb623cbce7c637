"""SAM2-MAFLNet: a teacher on SAM2's frozen image encoder, and a small student that learns its relations.

No code of the paper is public; its parts are: Castling-ViT's and XCiT's attention, AMGCFN's fusion, MEGANet's edge
module, SAM2-UNet's adapters, DIST's relations and GeoSeg's training. Where an equation as printed cannot be right the
default follows the part's own publication and `PRESETS` holds the printed form.
Read `maca`, `lhfem`, `network`, then `losses` and `method`.
"""

from geodistill.methods.maflnet.lhfem import LHFEM, LhfemConfig
from geodistill.methods.maflnet.losses import LossConfig
from geodistill.methods.maflnet.maca import MACA, MacaConfig
from geodistill.methods.maflnet.method import PRESETS, build
from geodistill.methods.maflnet.network import MaflNetwork, NetworkConfig

__all__ = [
    "LHFEM",
    "MACA",
    "PRESETS",
    "LhfemConfig",
    "LossConfig",
    "MacaConfig",
    "MaflNetwork",
    "NetworkConfig",
    "build",
]
