"""Labels from boxes: detection annotations become pixel labels through a promptable segmenter (SAMRS)."""
