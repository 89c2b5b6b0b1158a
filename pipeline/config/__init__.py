"""What a user may say: the config's model, its reader, class names and ready configs."""
