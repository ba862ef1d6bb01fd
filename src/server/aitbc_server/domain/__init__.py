"""Jobs, miners, leases and errors: plain values and rules, with no I/O and no clock."""
