"""A loaded model behind one small interface, and conversations that drive chains with it."""
