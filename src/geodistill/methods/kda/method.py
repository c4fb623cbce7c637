"""KDA put together: student, objective, and phase 1 with its teacher where asked for."""

from __future__ import annotations

from typing import Any

from geodistill.errors import RecipeError
from geodistill.methods.frozen import FrozenTeacher
from geodistill.methods.kda.distil import DistilTask
from geodistill.methods.kda.losses import KdaObjective, LossConfig
from geodistill.methods.kda.network import KdaNetwork, NetworkConfig
from geodistill.methods.method import Method
from geodistill.methods.teacher import TeacherConfig, build_teacher
from geodistill.spec import Spec

PRESETS: dict[str, dict[str, Any]] = {
    # The released code's form, which the published parameter count is of.
    "coherent": {},
    # The paper as printed: Eq. 1's convolutions, which make the decoder 2.25 M parameters, and judgements a position.
    "printed": {
        "network": {"project": "conv3x3_bn_relu"},
        "losses": {"phase": {"discriminator": {"form": "patch"}}},
    },
}
"""Recipe values by preset, laid under the recipe's own."""


def build(
    spec: Spec, network: NetworkConfig, losses: LossConfig, teacher: TeacherConfig | FrozenTeacher | None = None
) -> Method:
    """Build student and objective for data of a Spec, and phase 1 where it has steps.

    Raises:
        UnknownNameError: Unknown encoder, choice or loss term.
        RecipeError: Phase 1 without a teacher, or student, teacher and data do not fit each other.
        ArtifactError: Weights cannot be had or do not fit.
    """
    arguments: dict[str, Any] = {
        "encoder": network.encoder,
        "decoder": network.decoder,
        "decoder_channels": network.decoder_channels,
        "project": network.project,
        "upsample": network.upsample,
    }
    student = KdaNetwork(spec.channels, spec.classes, **arguments, encoder_weights=network.encoder_weights)
    # The encoder's own name may hold more: the padding that its weights were trained with.
    arguments["encoder"] = student.encoder.name
    if losses.phase.steps == 0:
        return Method("kda", arguments, student, KdaObjective(losses.weights, losses.gamma))
    if teacher is None:
        raise RecipeError("losses.phase.steps without a teacher", "the model to learn from", "set teacher.encoder")
    frozen = build_teacher(teacher, spec)
    objective = KdaObjective(losses.weights, losses.gamma, frozen.module)
    phase = DistilTask(student.encoder, frozen, losses.phase, spec)
    return Method("kda", arguments, student, objective, phase, teachers={"teacher": frozen})
