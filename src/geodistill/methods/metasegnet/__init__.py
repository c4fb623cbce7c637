"""MetaSegNet: metadata -> climate zone -> text -> segmentation."""

from geodistill.methods.metasegnet.losses import LossConfig, MetaSegNetObjective
from geodistill.methods.metasegnet.method import PRESETS, NetworkConfig, TextConfig, build, prompt_row
from geodistill.methods.metasegnet.network import ANY, MetaSegNetwork

__all__ = [
    "ANY",
    "PRESETS",
    "LossConfig",
    "MetaSegNetObjective",
    "MetaSegNetwork",
    "NetworkConfig",
    "TextConfig",
    "build",
    "prompt_row",
]
