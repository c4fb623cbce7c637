"""Data sets: manifests, checks, samples, augmentation, made-up scenes."""
