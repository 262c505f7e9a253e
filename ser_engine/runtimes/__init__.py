"""How a network is executed. One file a runtime, one interface: :mod:`ser_engine.runtimes.base`."""
