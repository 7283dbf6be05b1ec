"""What goes wrong around a reader: stores, files, threads, processes, signals, memory."""
