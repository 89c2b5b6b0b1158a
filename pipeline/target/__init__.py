"""What a target remembers of itself, below `.coco-diy/`."""
