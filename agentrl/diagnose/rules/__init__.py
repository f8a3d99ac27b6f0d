"""What can be wrong with a run, one idea a file."""
