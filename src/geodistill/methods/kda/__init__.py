"""KDA: Knowledge Distillation Adversarial framework (Wang et al., LGRS 2025).

Phase 1 teaches a light encoder a frozen foundation model's features, against a discriminator and without labels;
phase 2 trains that encoder and the DCF decoder on labels. Where paper and released code differ, the default is the
form that gives the published parameter count, and a preset holds the other.
Read `network`, then `training`, `distil` (phase 1) and `stability`.
"""
