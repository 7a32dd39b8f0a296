"""Resources, IO manager, run configuration, metadata and terminal output."""
