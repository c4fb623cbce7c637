"""Supervised baselines: one encoder, one of the common decoders, cross-entropy."""
