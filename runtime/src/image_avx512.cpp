// The inner loops of image.cpp in AVX-512. Compiled with its flags; run only where the CPU has it.
#if defined(__x86_64__)
#include "image_kernels.hpp"

#define LANES 16
#include "image_kernels.inl"

namespace signedge {

const ImageKernels image_kernels_avx512 = {"avx512", average_rows, average_pixels, average_samples, to_rgb};

}  // namespace signedge
#endif
