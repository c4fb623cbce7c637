"""SEP, SAMRS's segmentation pre-training: one encoder and decoder learn several data sets at once, a head for each.

Any number of sets with any classes; the heads are left behind and the rest is fine-tuned on a set of its own.
Read `network`, `decoders`, `mask2former`, then `losses`, `mask_losses` and `method`; how a batch is parted among the
sets is in `geodistill.data.mixture`.
"""

from geodistill.methods.sep.losses import LossConfig
from geodistill.methods.sep.method import build
from geodistill.methods.sep.network import NetworkConfig, SepNetwork

__all__ = ["LossConfig", "NetworkConfig", "SepNetwork", "build"]
