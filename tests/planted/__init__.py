"""Planted bugs, listed: what is made wrong, and what notices it.

The mistakes stand where they are tested (`_SUITES`); a test of one passes exactly if a check of the
suite notices it. Here they are run and told of, so that everybody can see what a green suite means.
"""
