"""A conversation that can be steered and kept: its state, its files, its commands. No terminal."""
