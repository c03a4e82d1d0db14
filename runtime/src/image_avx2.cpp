// The inner loops of image.cpp in AVX2. Compiled with its flags; run only where the CPU has it.
#if defined(__x86_64__)
#include "image_kernels.hpp"

#define LANES 8
#include "image_kernels.inl"

namespace signedge {

const ImageKernels image_kernels_avx2 = {"avx2", average_rows, average_pixels, average_samples, to_rgb};

}  // namespace signedge
#endif
