"""Made-up georeferenced scenes that look like towns from above, with masks and oriented boxes."""

from geodistill.synthetic.region import LEGEND, REGIONS, Region
from geodistill.synthetic.scene import OrientedBox, Scene, draw_scene, write_dataset, write_scene

__all__ = ["LEGEND", "REGIONS", "OrientedBox", "Region", "Scene", "draw_scene", "write_dataset", "write_scene"]
