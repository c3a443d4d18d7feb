"""One thin module a command: read the flags, call the package, render the result."""
