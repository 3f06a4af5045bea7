"""`lakegate demo`: the whole idea in half a minute, on real data."""
