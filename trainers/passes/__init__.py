"""How rows go through the model and back: how they are cut, what they share, and what that takes."""
