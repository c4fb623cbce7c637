"""What changed between two maps of one place."""
