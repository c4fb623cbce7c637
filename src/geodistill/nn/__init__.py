"""Paper-neutral building blocks: encoders, decoders, attention, losses."""
