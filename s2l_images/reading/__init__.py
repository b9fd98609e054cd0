"""Files of images and of label images, as arrays."""
