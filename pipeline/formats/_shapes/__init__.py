"""Files of labelled shapes in pixels, one an image, as labelme's family writes them: what their formats share."""
