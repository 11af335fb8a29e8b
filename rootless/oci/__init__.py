"""The OCI specifications as data: no I/O."""
