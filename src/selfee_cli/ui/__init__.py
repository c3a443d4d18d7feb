"""What only a terminal needs: output, styles, the streamed chain, diffs, progress, the session."""
