"""Scripted attacks on real machines: each is refused or harmless, and honest replicas go on.

SECURITY.md lists them. What a single record may hold is tried in `tests/test_admission.py` and
`tests/laws/test_admission.py`, what an HTTP request may be in `tests/server/`.
"""
