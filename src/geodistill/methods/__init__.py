"""The published methods: a folder per paper (network, then training), and what all of them share."""
