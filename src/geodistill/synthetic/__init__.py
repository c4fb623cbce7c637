"""Made-up georeferenced scenes that look like towns from above, with masks and oriented boxes."""

from geodistill.synthetic.region import LEGEND, REGIONS, TownRegion
from geodistill.synthetic.scene import OrientedBox, TownScene, draw_scene, write_dataset, write_scene

__all__ = ["LEGEND", "REGIONS", "OrientedBox", "TownRegion", "TownScene", "draw_scene", "write_dataset", "write_scene"]
