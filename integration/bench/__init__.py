"""``make bench``: what ocelot costs, next to others doing the same work in the same run."""
