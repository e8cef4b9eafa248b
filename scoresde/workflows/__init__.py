"""What people do with all of the parts: a training from beginning to end, from a configuration or from Python."""
