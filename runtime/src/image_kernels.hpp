// The inner loops of image.cpp. One source, image_kernels.inl, is compiled for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace signedge {

// One target cell of one axis: `count` source cells from `first` on, weighted head, whole ... whole, tail.
struct ImageSpan {
    uint32_t first, count;
    float head, whole, tail;
};

// YCbCr to RGB, factors in 1/65536. Each chroma value counts from 128, luma from `black`.
struct ImageColour {
    int32_t black, luma, red_v, green_u, green_v, blue_u;
};

struct ImageKernels {
    const char *name;
    // sums[i] = head * rows[0][i] + whole * (rows[1][i] + ...) + tail * rows[count - 1][i], added to what is there if `add`.
    // At most max_rows rows.
    void (*average_rows)(const uint8_t *const *rows, uint32_t count, const ImageSpan &weights, bool add, float *sums,
                         size_t values);
    // Interleaved pixels of three channels in, one row of each of three planes out, in -1..1. Reads one float more.
    void (*average_pixels)(const float *pixels, const ImageSpan *spans, uint32_t count, float *const planes[3]);
    // The same for one channel.
    void (*average_samples)(const float *samples, const ImageSpan *spans, uint32_t count, float *plane);
    // A row of YCbCr to a row of each of R, G, B. Two pixels share a chroma value; one value of a kind lies chroma_step
    // (1 or 2; if 2, v follows u) bytes after the one before.
    void (*to_rgb)(const uint8_t *y, const uint8_t *u, const uint8_t *v, uint32_t chroma_step, const ImageColour &colour,
                   size_t pixels, uint8_t *const planes[3]);
};

// As many 8-bit values always fit the 16 bits in which the kernels sum them.
constexpr uint32_t max_rows = 32;

// Of this build; find_image_kernels() knows which of them this CPU can run.
extern const ImageKernels image_kernels_generic;
#if defined(__x86_64__)
extern const ImageKernels image_kernels_avx2, image_kernels_avx512;
#endif

// The fastest that this CPU runs, or those of that name; NULL when it does not run them.
const ImageKernels *find_image_kernels(const char *name = nullptr);

}  // namespace signedge
