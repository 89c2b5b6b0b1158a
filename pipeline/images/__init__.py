"""What an image file says of itself: size from its header, whether it is whole, its pixels."""
