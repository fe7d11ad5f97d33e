"""Methods: one file or folder each, registered by decorator."""
