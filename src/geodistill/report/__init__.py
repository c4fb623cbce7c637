"""One page that shows what was trained on what and how well it does: a file that needs nothing but itself."""
