"""Images: the photographs in scikit-image's wheel, folders, downloads; `test_sets` and `rain` for the experiments."""

from .download import DATASETS, fetch_dataset
from .sources import EMBEDDED, embedded_images, image_files, load_folder, load_images, named_images

__all__ = [
    "DATASETS",
    "EMBEDDED",
    "embedded_images",
    "fetch_dataset",
    "image_files",
    "load_folder",
    "load_images",
    "named_images",
]
