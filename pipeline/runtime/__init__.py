"""How work is run: schedulers, progress, counters, interrupts."""
