"""A miniature series of runs, the scaling law that they follow, and what it predicts."""
