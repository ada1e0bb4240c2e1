"""Runtime of stages and commands: errors, atomic files, processes, devices, fingerprints."""
