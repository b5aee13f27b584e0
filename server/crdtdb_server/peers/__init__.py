"""Replicas talking to each other over HTTP: links, their faults, and what drives the machine."""
