// The inner loops of image.cpp in what every CPU of this architecture has: SSE2 on x86-64, NEON on aarch64.
#include "image_kernels.hpp"

#define LANES 4
#include "image_kernels.inl"

namespace signedge {

#if defined(__aarch64__)
#define NAME "neon"
#else
#define NAME "generic"
#endif
const ImageKernels image_kernels_generic = {NAME, average_rows, average_pixels, average_samples, to_rgb};

}  // namespace signedge
