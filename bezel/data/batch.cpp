#include "bezel/data/batch.h"
