"""Networks, and how their weights are found, checked and kept."""
