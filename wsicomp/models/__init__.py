"""Networks, their registry, their weights and the cards that say where the weights come from."""
