"""What the image's own metadata says about a scene: position, climate zone, season, and words made of them."""
