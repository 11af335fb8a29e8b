"""Containers: from an OCI spec to a plan, and from a plan to processes."""
