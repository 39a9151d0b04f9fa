"""The pure core: a step is a function of the state and the inputs. No clock, no randomness, no I/O."""
