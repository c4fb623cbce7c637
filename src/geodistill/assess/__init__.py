"""How good a map is, and how many hectares each class has: a random sample of points, and estimates from it."""
