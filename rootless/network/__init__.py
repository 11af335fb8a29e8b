"""Networks of containers: modes, ports, name resolution."""
