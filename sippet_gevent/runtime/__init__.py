"""Runtime: time, greenlets, limits and the process, for all floors above."""
