"""What a run writes down while it goes on: its rows, its lock, and how finished work is found again."""
