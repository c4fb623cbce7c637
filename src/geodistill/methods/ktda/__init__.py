"""KTDA: Knowledge Transfer and Domain Adaptation (Zhang, Zou et al., arXiv 2412.06664).

A frozen vision transformer's features are transferred into a student's (FAM) and adapted to the target domain (FMM).
Where paper and released code differ, the default follows the variant that is coherent and `PRESETS` holds the other.
Read `network`, then `losses`, `transfer` (ours, not the paper's) and `method`.
"""

from geodistill.methods.ktda.losses import LossConfig, TransferPhase
from geodistill.methods.ktda.method import PRESETS, build
from geodistill.methods.ktda.network import FMM, KtdaNetwork, NetworkConfig
from geodistill.methods.teacher import TeacherConfig
from geodistill.nn.alignment import FAM, pair_levels

__all__ = [
    "FAM",
    "FMM",
    "PRESETS",
    "KtdaNetwork",
    "LossConfig",
    "NetworkConfig",
    "TeacherConfig",
    "TransferPhase",
    "build",
    "pair_levels",
]
