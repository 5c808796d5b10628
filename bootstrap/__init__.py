"""From the first mount to the hand-off, and the shutdown at the other end."""
