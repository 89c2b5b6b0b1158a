"""What an image file says of itself: size from its header, whether it is whole, what it looks like when decoded."""
