"""Why does it not learn? Reads what a run has written down and names the most probable cause first.

`evidence` is what the rules see, `rules/` has one idea a file, `ranking` asks all of them and puts causes
before what follows from them. A rule of yours is a function of an `Evidence`, under the entry points
`agentrl.diagnoses`.
"""
