"""Pure functions on flat tensors: one idea per file, with its equation and its source.

Layout of every function here: the tokens that are trained on stand one behind the other in one axis, N,
without padding and without mask; `episode_N` says which episode a token belongs to. What papers call a row or
a sequence is an episode: its contexts share its reward, its advantage and its place in a denominator.

Shape letters: N trained tokens, E episodes, G groups.
"""
