"""How fast it is, each against a peer or a bound that is measured in the same run."""
