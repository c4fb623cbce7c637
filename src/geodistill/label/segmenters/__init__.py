"""Promptable segmenters: SAM and its kin, GrabCut, and filling the box itself."""
