"""Models as programs over gates, and their public metadata."""
