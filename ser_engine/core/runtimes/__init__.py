"""How a network is executed: one file a runtime, one interface, :mod:`.base`."""
