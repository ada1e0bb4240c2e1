"""What every stage and command needs around its work: errors, files, processes, devices."""
