"""One file a paper: modules in the paper's order, network, losses."""
