"""Session guarantees, on real replicas under flapping links."""
