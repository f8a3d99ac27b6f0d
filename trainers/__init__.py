"""Training: the updater, the loop, the parts of a recipe, and one file per algorithm."""
