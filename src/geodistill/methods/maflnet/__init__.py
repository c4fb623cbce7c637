"""SAM2-MAFLNet: a teacher on SAM2's frozen image encoder, and a small student that learns its relations.

No code of the paper is public; its parts are: Castling-ViT's and XCiT's attention, AMGCFN's fusion, MEGANet's edge
module, SAM2-UNet's adapters, DIST's relations and GeoSeg's training. Where an equation as printed cannot be right the
default follows the part's own publication and a preset holds the printed form.
Read `maca`, `lhfem`, `network`, then `training`.
"""
