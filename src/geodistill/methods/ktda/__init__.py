"""KTDA: Knowledge Transfer and Domain Adaptation (Zhang, Zou et al., arXiv 2412.06664).

A frozen vision transformer's features are transferred into a student's (FAM) and adapted to the target domain (FMM).
Where paper and released code differ, the default follows the variant that is coherent and a preset holds the other.
Read `network`, then `training` and `transfer` (a phase of ours, not the paper's).
"""
