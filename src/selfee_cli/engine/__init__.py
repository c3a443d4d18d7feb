"""A loaded model behind one small interface, and the session that drives chains with it."""
