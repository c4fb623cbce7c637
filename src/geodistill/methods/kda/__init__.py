"""KDA: Knowledge Distillation Adversarial framework (Wang et al., LGRS 2025).

Phase 1 teaches a light encoder a frozen foundation model's features, against a discriminator and without labels;
phase 2 trains that encoder and the DCF decoder on labels.
"""
