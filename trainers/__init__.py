"""Training: one file per algorithm, the parts that it is made of, and the updater; folders hold the rest."""
