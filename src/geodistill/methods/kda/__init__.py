"""KDA: Knowledge Distillation Adversarial framework (Wang et al., LGRS 2025).

Phase 1 teaches a light encoder a frozen foundation model's features, against a discriminator and without labels;
phase 2 trains that encoder and the DCF decoder on labels. Where paper and released code differ, the default is the
form that gives the published parameter count, and `PRESETS` holds the other.
Read `decoder`, `network`, then `distil` (phase 1), `stability` and `method`.
"""

from geodistill.methods.kda.decoder import DcfDecoder, DySample
from geodistill.methods.kda.distil import DistilTask
from geodistill.methods.kda.losses import DiscriminatorConfig, DistilPhase, LossConfig
from geodistill.methods.kda.method import PRESETS, build
from geodistill.methods.kda.network import KdaNetwork, NetworkConfig

__all__ = [
    "PRESETS",
    "DcfDecoder",
    "DiscriminatorConfig",
    "DistilPhase",
    "DistilTask",
    "DySample",
    "KdaNetwork",
    "LossConfig",
    "NetworkConfig",
    "build",
]
