"""Measurements on this machine, each beside its limit and its peers, in one run."""
