// TIFF images, by the seeds of this target; the checks are those of all images.
#include "fuzz/image.cpp"
