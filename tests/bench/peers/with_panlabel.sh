# panlabel: `sample` of all images with a filter of categories; labels alone, as it writes no images.
exec "$3/panlabel" sample --from yolo --to yolo --input "$1" --output "$2" --fraction 1 \
  --categories person,bicycle,car --category-mode annotations --allow-lossy
